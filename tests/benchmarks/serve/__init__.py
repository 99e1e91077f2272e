"""Serving measured: the handler, cold starts, shards of users, the API on LocalStack; see ``__main__``."""
