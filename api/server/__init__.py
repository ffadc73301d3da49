"""The HTTP server: gunicorn's processes and header parser, and a loop of our own that serves all connections.

The loop (`worker.py`) reads from every connection without waiting for any of them. It hands a request to a thread when
the whole request has arrived, and sends what a slow client has not taken yet. So a slow client holds memory, which is
bounded, and no thread.
"""
