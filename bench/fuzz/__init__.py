"""Random bytes through everything that reads what a server sends."""
