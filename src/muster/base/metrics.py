"""The metrics that anyone can read while Muster runs: queue waits, batch sizes, lock waits, phase times."""

from prometheus_client import Counter, Gauge, Histogram

_SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000)
_TIMES_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
# For what is judged by percentiles: each bound is at most twice the one before.
_FINE_S = (
    *(0.001, 0.0015, 0.002, 0.003, 0.004, 0.005, 0.007, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.07, 0.1, 0.15),
    *(0.2, 0.3, 0.4, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 30.0),
)

BATCH_ITEMS = Histogram("muster_batch_items", "Items in a batch", ["coalescer"], buckets=_SIZES)
BATCH_SECONDS = Histogram("muster_batch_seconds", "Time a batch took", ["coalescer"], buckets=_TIMES_S)
QUEUE_ITEMS = Gauge("muster_queue_items", "Items that wait behind the batch in flight", ["coalescer"])
QUEUE_SECONDS = Histogram("muster_queue_seconds", "Wait of a batch's first item", ["coalescer"], buckets=_TIMES_S)
LOCK_WAIT_SECONDS = Histogram("muster_lock_wait_seconds", "Wait for a lock", ["kind"], buckets=_TIMES_S)
LOCK_HOLD_SECONDS = Histogram("muster_lock_hold_seconds", "Time a lock was held", ["kind"], buckets=_TIMES_S)
TRANSACTION_SECONDS = Histogram("muster_transaction_seconds", "Time of a write transaction", buckets=_TIMES_S)
CONNECTIONS = Gauge("muster_database_connections", "Connections to PostgreSQL in use")
CONNECTION_WAIT_SECONDS = Histogram("muster_database_wait_seconds", "Wait for one of them", buckets=_TIMES_S)
IN_DOUBT = Counter("muster_commits_in_doubt_total", "Commits that got no answer and were looked up")
REDECIDED = Counter("muster_redecided_total", "Batches decided again because what they read had changed", ["what"])
LEASES = Counter("muster_address_leases_total", "Addresses leased ahead of time; of these, lost", ["what"])
REQUESTS = Counter("muster_requests_total", "HTTP requests answered", ["api", "method", "status"])
OUTBOX_SECONDS = Histogram(
    "muster_outbox_seconds", "Age of a host's oldest note when its message was taken by the bus", buckets=_TIMES_S
)
RESYNCS = Counter("muster_resyncs_total", "Hosts that were sent, or asked for, everything", ["why"])
MESSAGES = Counter("muster_messages_total", "Messages on the bus", ["direction"])
HEARTBEATS = Counter("muster_heartbeats_total", "Heartbeats among the messages from hosts")
PUBLISH_SECONDS = Histogram("muster_bus_publish_seconds", "Until the bus had taken a batch", buckets=_TIMES_S)
DELIVERY_SECONDS = Histogram("muster_bus_delivery_seconds", "From publishing to reading a message", buckets=_FINE_S)
NFT_TRANSACTIONS = Counter("muster_nft_transactions_total", "Changes of the host's firewall, each of them atomic")
NETLINK_SENDS = Counter(
    "muster_netlink_sends_total", "Times that links were asked about or changed, up to 128 at a time"
)
PHASE_SECONDS = Histogram("muster_phase_seconds", "Time to a step of a server's life", ["step"], buckets=_TIMES_S)
TASK_FAILURES = Counter(
    "muster_task_failures_total", "Background tasks that failed by a mistake and began anew", ["task"]
)
STATE_CHANGES = Counter("muster_server_states_total", "Servers that reached a state", ["state"])
HOSTS = Gauge("muster_hosts", "Hosts that are up, and that are down, as one process of the cluster counts", ["state"])
MEMORY_AVAILABLE = Gauge("muster_host_memory_available_bytes", "What can be taken before a kernel would kill", ["host"])
BOOTS_HELD = Gauge("muster_host_boots_held", "1 while boots wait for memory", ["host"])
BOOTS = Gauge("muster_boots", "Guests that boot now, and how many may at a time (hosts with boot admission)", ["what"])
BOOT_SECONDS = Histogram("muster_boot_seconds", "From a guest's start to its lease", buckets=(*_TIMES_S, 60.0, 120.0))
LIBVIRT_CALLS = Counter("muster_libvirt_calls_total", "Calls to libvirt that what servers need has cost")
KSM_RUNNING = Gauge("muster_ksm_running", "1 while the kernel looks for equal pages (KSM)", ["host"])
KSM_SAVED = Gauge("muster_ksm_saved_bytes", "Memory that would be needed on top without KSM", ["host"])
KSM_SHARED = Gauge("muster_ksm_shared_bytes", "Memory that holds merged pages", ["host"])
IMAGE_COPIES = Counter("muster_image_copies_total", "Files of images that a control machine came to have", ["how"])
SIM_GUESTS = Gauge("muster_simulated_guests", "Simulated guests that the process's hosts have", ["state"])
GUESTS_KEPT = Gauge("muster_guests_kept", "Guests put aside since the database does not know their servers", ["host"])
SINGLETON = Gauge("muster_singleton", "1 in the process that does this work for the whole cluster", ["name"])
