"""FastAPI + ThreadPoolExecutor(2) + Redis: the recipe that the project's design starts from."""

import asyncio
import json
import os
import subprocess
import uuid
from concurrent.futures import ThreadPoolExecutor

import redis
import redis.asyncio
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

command = json.loads(os.environ["CHILD"])
pool = ThreadPoolExecutor(max_workers=2, thread_name_prefix="bg-worker")
results = redis.Redis.from_url(os.environ["REDIS_URL"])
jobs = redis.asyncio.Redis.from_url(os.environ["REDIS_URL"])
app = FastAPI()


class Submission(BaseModel):
    prompt: str


def work(job: str, prompt: str) -> None:
    try:
        done = subprocess.run(command, input=prompt.encode(), capture_output=True, check=True)
        results.hset(f"job:{job}", mapping={"status": "succeeded", "output": done.stdout})
    except Exception as error:
        results.hset(f"job:{job}", mapping={"status": "failed", "error": str(error)})


@app.post("/jobs", status_code=202)
async def submit(submission: Submission):
    job = str(uuid.uuid4())
    await jobs.hset(f"job:{job}", mapping={"status": "queued", "prompt": submission.prompt})
    asyncio.get_running_loop().run_in_executor(pool, work, job, submission.prompt)
    return {"id": job, "status": "queued"}


@app.get("/health/live")
async def live():
    return {"status": "live"}


uvicorn.run(app, host="127.0.0.1", port=int(os.environ["PORT"]), log_level="warning", access_log=False)
