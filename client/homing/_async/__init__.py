"""The async client, written by hand. The sync client is generated from it."""
