"""A history of every move of every prediction, written by triggers: the code under test knows nothing of it."""

from __future__ import annotations

from storage.postgres.database import Connection

TRIGGERS = """
CREATE TABLE chaos_moves (
    n bigserial PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    prediction_id text NOT NULL,
    was text,
    status text NOT NULL,
    was_claim uuid,
    claim_id uuid,
    worker_id uuid,
    attempt int NOT NULL,
    crashes int NOT NULL,
    beside_suspect boolean NOT NULL,
    lease_was timestamptz
);
CREATE TABLE chaos_notices (
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    prediction_id text NOT NULL
);
CREATE FUNCTION chaos_write_move() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE was predictions;
BEGIN
    IF TG_OP = 'UPDATE' THEN was := OLD; END IF;
    IF was.status IS DISTINCT FROM NEW.status OR was.claim_id IS DISTINCT FROM NEW.claim_id THEN
        INSERT INTO chaos_moves (prediction_id, was, status, was_claim, claim_id, worker_id, attempt, crashes,
                                 beside_suspect, lease_was)
        VALUES (NEW.id, was.status, NEW.status, was.claim_id, NEW.claim_id, NEW.worker_id, NEW.attempt, NEW.crashes,
                NEW.status = 'processing' AND EXISTS (
                    SELECT FROM predictions AS other
                    WHERE other.worker_id = NEW.worker_id AND other.status = 'processing' AND other.id <> NEW.id
                      AND (other.crashes > 0 OR NEW.crashes > 0)),
                was.lease_expires_at);
    ELSIF NEW.lease_expires_at = 'epoch' THEN
        INSERT INTO chaos_notices (prediction_id) VALUES (NEW.id);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER chaos_write_move AFTER INSERT OR UPDATE ON predictions
    FOR EACH ROW EXECUTE FUNCTION chaos_write_move();

CREATE TABLE chaos_workers (id uuid PRIMARY KEY, pid int NOT NULL, ready_at timestamptz);
CREATE FUNCTION chaos_write_worker() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO chaos_workers (id, pid) VALUES (NEW.id, NEW.pid) ON CONFLICT DO NOTHING;
    UPDATE chaos_workers SET ready_at = clock_timestamp()
    WHERE id = NEW.id AND ready_at IS NULL AND NEW.state = 'idle';
    RETURN NULL;
END $$;
CREATE TRIGGER chaos_write_worker AFTER INSERT OR UPDATE OF state ON workers
    FOR EACH ROW EXECUTE FUNCTION chaos_write_worker();
"""


def watch(conn: Connection) -> None:
    """Install the triggers, before anything runs."""
    conn.execute(TRIGGERS)
