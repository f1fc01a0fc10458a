"""How often guests may ask for their metadata."""

from muster.host.metadata.budget import BURST, PER_S, Budgets


def test_a_boot_is_not_held_up_and_a_flood_is() -> None:
    """A guest that asked without end once had the agent's event loop to itself."""
    now_s = 0.0
    budgets = Budgets(lambda: now_s)
    assert all(budgets.take("a") for _ in range(BURST))
    assert not budgets.take("a")
    assert budgets.take("b"), "each has its own"
    now_s = 10.0
    assert sum(budgets.take("a") for _ in range(BURST)) == 10 * PER_S
    now_s = 10_000.0
    assert sum(budgets.take("a") for _ in range(2 * BURST)) == BURST


def test_who_asks_under_many_addresses_fills_no_memory() -> None:
    budgets = Budgets(lambda: 0.0)
    for number in range(20_000):
        budgets.take(str(number))
    assert len(budgets._left) == 10_000
