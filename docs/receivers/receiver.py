"""A receiver of Darkroom's webhooks: verify, remember, act once, answer fast. Python's standard library is enough.

    WEBHOOK_SECRET=whsec_… PORT=9000 python receiver.py

A delivery may arrive more than once (a courier died before it could note your answer), always with the same
webhook-id and the same body. So the id is written down in the same transaction as what follows from it.
"""

import base64
import binascii
import hashlib
import hmac
import json
import os
import sqlite3
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOLERANCE_S = 300


def verify(secret: str, headers, body: bytes) -> bool:
    """Standard Webhooks: HMAC-SHA256 over id.timestamp.body, with any of the signatures that are given."""
    delivery_id, sent_at = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not delivery_id or not sent_at.isdecimal() or abs(time.time() - int(sent_at)) > TOLERANCE_S:
        return False
    key = base64.b64decode(secret.removeprefix("whsec_"))
    expected = hmac.new(key, f"{delivery_id}.{sent_at}.".encode() + body, hashlib.sha256).digest()
    for signature in headers.get("webhook-signature", "").split():
        version, _, given = signature.partition(",")
        try:
            if version == "v1" and hmac.compare_digest(base64.b64decode(given), expected):
                return True
        except binascii.Error:
            continue
    return False


def handle_once(database: sqlite3.Connection, delivery_id: str, prediction: dict) -> bool:
    """Act on a prediction, unless this delivery was acted on before. Both are written, or neither is."""
    with database:
        new = database.execute("INSERT OR IGNORE INTO handled (webhook_id) VALUES (?)", (delivery_id,)).rowcount
        if new:
            database.execute(
                "INSERT INTO pictures (prediction_id, status, output) VALUES (?, ?, ?)",
                (prediction["id"], prediction["status"], json.dumps(prediction["output"])),
            )
    return bool(new)


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if not verify(os.environ["WEBHOOK_SECRET"], self.headers, body):
            self.send_response(401)
        else:
            database = sqlite3.connect(os.environ.get("DATABASE", "receiver.db"))
            try:
                new = handle_once(database, self.headers["webhook-id"], json.loads(body))
                print("handled" if new else "seen before", self.headers["webhook-id"], flush=True)
                self.send_response(204)
            except sqlite3.OperationalError:  # Darkroom sends it again
                self.send_response(503)
            finally:
                database.close()
        self.end_headers()

    def log_message(self, *args) -> None:
        pass


if __name__ == "__main__":
    with sqlite3.connect(os.environ.get("DATABASE", "receiver.db")) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS handled (webhook_id TEXT PRIMARY KEY)")
        connection.execute("CREATE TABLE IF NOT EXISTS pictures (prediction_id TEXT, status TEXT, output TEXT)")
    connection.close()
    server = ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", "9000"))), Handler)
    print(f"listening on http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
