"""What each kind of part is: what it needs before its first start, how it is started, and when it is ready."""
