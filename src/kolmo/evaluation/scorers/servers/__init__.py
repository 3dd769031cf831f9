"""Models behind servers: `api:URL`, docs/servers.md.

scorer.py   the scorer: windows to requests, answers to nats     connection.py   HTTP, with patience and limits
own_tokens.py   tokens by a tokenizer that the user has          server_tokens.py   tokens by the server's
"""
