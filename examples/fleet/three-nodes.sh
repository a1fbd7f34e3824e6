#!/usr/bin/env bash
# Three processes of Offload on this machine, on one Redis: one service, whichever of them is asked.
# Needs redis-server, or REDIS_URL. `npm run build` first; `examples/fleet/three-nodes.sh`, and Ctrl-C to end it.
# With `--once` it submits six jobs to one of them, waits for them at another, says which ran where, and ends.
set -eu
cd "$(dirname "$0")/../.."

data="$(mktemp -d)"
pids=()
end() {
  [ "${#pids[@]}" = 0 ] || kill "${pids[@]}" 2>/dev/null || true
  wait
  rm -rf "$data"
}
trap end EXIT

free_port() { node -e 'const s=require("net").createServer().listen(0,"127.0.0.1",()=>{console.log(s.address().port);s.close()})'; }

if [ -z "${REDIS_URL:-}" ]; then
  port="$(free_port)"
  redis-server --port "$port" --bind 127.0.0.1 --dir "$data" --save "" --appendonly yes >"$data/redis.log" 2>&1 &
  pids+=("$!")
  export REDIS_URL="redis://127.0.0.1:$port"
fi
until node -e 'const {port,hostname}=new URL(process.env.REDIS_URL);require("net").connect(port||6379,hostname).on("error",()=>process.exit(1)).on("connect",()=>process.exit(0))'; do sleep 0.1; done

export OFFLOAD_REDIS_PREFIX="${OFFLOAD_REDIS_PREFIX:-{three-nodes\}:}" OFFLOAD_LLM="${OFFLOAD_LLM:-demo}" OFFLOAD_LOG=json
urls=()
for name in one two three; do
  port="$(free_port)"
  PORT="$port" OFFLOAD_DATA="$data/$name" node dist/bundle/main.js >"$data/$name.log" 2>&1 &
  pids+=("$!")
  urls+=("http://127.0.0.1:$port")
done
for url in "${urls[@]}"; do
  until curl -sf "$url/health/ready" >/dev/null; do sleep 0.1; done
  echo "ready: $url"
done
echo "try: curl -s ${urls[0]}/jobs -H 'Content-Type: application/json' -d '{\"prompt\":\"Hello\"}', then GET …/jobs/{id} at ${urls[2]}"

if [ "${1:-}" != "--once" ]; then
  wait
  exit
fi

ids=()
for n in 1 2 3 4 5 6; do
  ids+=("$(curl -sf "${urls[0]}/jobs" -H 'Content-Type: application/json' -d "{\"prompt\":\"job $n\"}" | node -pe 'JSON.parse(require("fs").readFileSync(0)).id')")
done
for id in "${ids[@]}"; do
  status="$(curl -sf "${urls[2]}/jobs/$id" -H 'Prefer: wait=60' | node -pe 'JSON.parse(require("fs").readFileSync(0)).status')"
  node="$(grep -l "job running.*$id" "$data"/*.log | xargs -n1 basename | tr '\n' ' ')"
  echo "$id $status, by ${node//.log/}"
done
