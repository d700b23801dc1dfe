# SPDX-License-Identifier: MIT
"""What contrib/bench/http compares with: the same two calls, as one would write them with FastAPI and asyncpg."""

import datetime
import os
import uuid
from typing import Any, Literal

import asyncpg
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel

TABLE = """
CREATE TABLE IF NOT EXISTS peer_tasks (
  id uuid PRIMARY KEY, name text NOT NULL, payload jsonb NOT NULL, priority text NOT NULL, scheduled_at timestamptz,
  status text NOT NULL DEFAULT 'AVAILABLE', created_at timestamptz NOT NULL DEFAULT now()
)"""
INSERT = "INSERT INTO peer_tasks (id, name, payload, priority, scheduled_at) VALUES ($1, $2, $3, $4, $5) RETURNING *"

app = FastAPI()


class Task(BaseModel):
    name: str
    payload: Any = None
    priority: Literal["LOW", "MEDIUM", "HIGH", "CRITICAL"] = "MEDIUM"
    scheduled_at: datetime.datetime | None = None


async def prepare(connection: asyncpg.Connection) -> None:
    import json

    await connection.set_type_codec("jsonb", encoder=json.dumps, decoder=json.loads, schema="pg_catalog")


@app.on_event("startup")
async def startup() -> None:
    app.state.pool = await asyncpg.create_pool(os.environ["PEER_DATABASE"], min_size=10, max_size=10, init=prepare)
    async with app.state.pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(1)")
        await connection.execute(TABLE)


@app.post("/api/tasks/", status_code=201)
async def submit(task: Task) -> dict[str, Any]:
    at = task.scheduled_at
    if at and not at.tzinfo:
        at = at.replace(tzinfo=datetime.timezone.utc)
    row = await app.state.pool.fetchrow(INSERT, uuid.uuid4(), task.name, task.payload, task.priority, at)
    return dict(row)


@app.get("/api/tasks/{id}")
async def read(id: uuid.UUID) -> dict[str, Any]:
    row = await app.state.pool.fetchrow("SELECT * FROM peer_tasks WHERE id = $1", id)
    if not row:
        raise HTTPException(404)
    return dict(row)
