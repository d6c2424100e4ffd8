"""The transport for threads, generated from the async one."""
