#!/usr/bin/env bash
# Times `logweir serve` on a project with many runs and sessions and prints a Markdown table: question, bytes on the wire,
# milliseconds the first time (after something was recorded) and again (median). The log is simulated once and kept in
# WORK where that is given. Usage: bench-serve.sh [RUNS] [SESSIONS]
# With node, npm and Chromium (see test-serve.sh) the first page is timed in the browser too.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/env.sh

runs=${1:-1000} sessions=${2:-575061}
logweir=$(realpath "$logweir")
if [ -n "${WORK:-}" ]; then work=$WORK; mkdir -p "$work"; else work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; fi
[ -d "$work/raw" ] || "$logweir" simulate -q --sessions "$sessions" --out "$work/raw"
mkdir -p "$work/project/reports"
cp pipeline.yaml "$work/project/"
export LOGWEIR_HDFS=$work/raw CHROMIUM=${CHROMIUM:-$(command -v chromium || true)} TOOLS=$PWD/.tools/browser

exec python3 - "$logweir" "$work/project" "$runs" "$sessions" <<'PY'
import gzip, http.client, json, os, pathlib, statistics, subprocess, sys, time

logweir, project, runs, sessions = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])

def call(*words):
    return subprocess.run([logweir, "-C", project, *words], check=True, stdout=subprocess.PIPE).stdout

started = time.perf_counter()
call("run", "-q")
print(f"pipeline on {sessions:,} sessions: {time.perf_counter() - started:.0f} s", file=sys.stderr)
have = len(json.loads(call("runs", "--json", "-n", "1000000"))["runs"])
for n in range(have, runs):
    # Some runs move a number; the others find everything fresh.
    call("run", "-q", *(["--set", f"stages.evaluate.with.threshold.beta={1 + n / 100}"] if n % 200 == 100 else []))

server = subprocess.Popen([logweir, "-C", project, "serve", "--addr", "127.0.0.1:0", "--json"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
said = ""
while not said.rstrip().endswith("}"):
    said += server.stdout.readline()
address = json.loads(said)["addr"]

def ask(path):
    connection = http.client.HTTPConnection(address)
    started = time.perf_counter()
    connection.request("GET", path, headers={"accept-encoding": "gzip"})
    answer = connection.getresponse()
    body = answer.read()
    took = (time.perf_counter() - started) * 1000
    assert answer.status == 200, (path, answer.status, body[:300])
    return took, len(body), gzip.decompress(body) if answer.headers["content-encoding"] else body

try:
    last = json.loads(ask("/api/runs?n=1")[2])["runs"][0]["run"]
    questions = ["/", "/app.js", "/api/overview", "/api/runs?n=100", "/api/metrics?n=30", "/api/runs?n=1000", "/api/metrics?n=1000", f"/api/runs/{last}", f"/api/runs/{last}/graph",
                 "/api/lineage?target=reports/metrics.json%23/fusion/f1", "/api/alerts?limit=50", "/api/alerts?limit=50&q=test", "/api/diff?from=last~1&to=last"]
    print(f"| question | bytes sent | first, ms | again, ms |\n|---|---|---|---|", flush=True)
    for path in questions:
        first, size, body = ask(path)
        again = statistics.median(ask(path)[0] for _ in range(11))
        print(f"| `{path.replace(last, 'ID')}` | {size:,} | {first:.1f} | {again:.1f} |", flush=True)
    alert = json.loads(ask("/api/alerts?limit=1")[2])["alerts"][0]["session_id"]
    first = ask(f"/api/session?id={alert}")[0]
    print(f"| `/api/session?id=…` (models loaded, raw lines read) | | {first:.0f} | {ask(f'/api/session?id={alert}')[0]:.1f} |", flush=True)
    status = pathlib.Path(f"/proc/{server.pid}/status")
    if status.exists():
        print("memory:", [line for line in status.read_text().splitlines() if line.startswith("VmHWM")][0].split(":")[1].strip())
    browser = pathlib.Path(os.environ["TOOLS"]) / "node_modules"
    if os.environ["CHROMIUM"] and browser.is_dir():
        script = """
const { chromium } = require(process.env.TOOLS + "/node_modules/playwright-core");
(async () => {
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"] });
  const took = [];
  for (let i = 0; i < 12; i++) {
    const page = await (await browser.newContext()).newPage();
    await page.addInitScript(() => new MutationObserver(() => { if (!window.shown && document.querySelector("main table")) requestAnimationFrame(() => { window.shown = window.shown || performance.now(); }); }).observe(document, { childList: true, subtree: true }));
    await page.goto(process.argv[1]);
    await page.waitForFunction(() => window.shown);
    took.push(await page.evaluate(() => window.shown));
    await page.context().close();
  }
  await browser.close();
  const later = took.slice(1).sort((a, b) => a - b);
  console.log(`first page in Chromium, from navigation to the table of runs: first ${took[0].toFixed(0)} ms, median of ${later.length} more ${later[later.length >> 1].toFixed(0)} ms`);
})();
"""
        subprocess.run(["node", "-e", script, f"http://{address}/"], check=True)
finally:
    server.terminate()
PY
