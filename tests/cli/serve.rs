//! `serve` over real HTTP: who may ask what, and that answers are those of the commands.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::support::Project;

/// A running server; ended with its value.
struct Server {
    child: Child,
    addr: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        let found = self.head.lines().find_map(|line| {
            let (own, value) = line.split_once(':')?;
            own.eq_ignore_ascii_case(name).then(|| value.trim())
        });
        found.unwrap_or_default()
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    fn json(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text());
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }
}

impl Server {
    fn start(project: &Project, addr: &str) -> Self {
        let mut command = project.command(&["serve", "--addr", addr, "--json"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // One JSON document over several lines.
        let mut said = String::new();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        while !said.ends_with("}\n") {
            assert!(out.read_line(&mut said).unwrap() > 0, "the server ended: {said}");
        }
        let said: Value = serde_json::from_str(&said).unwrap();
        assert_eq!(said["event"], "serving");
        Self { child, addr: said["addr"].as_str().unwrap().to_owned() }
    }

    fn local(project: &Project) -> Self {
        Self::start(project, "127.0.0.1:0")
    }

    fn port(&self) -> &str {
        self.addr.rsplit_once(':').unwrap().1
    }

    fn open(&self, method: &str, target: &str, headers: &[&str]) -> TcpStream {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port().parse::<u16>().unwrap())).unwrap();
        let host = format!("Host: 127.0.0.1:{}", self.port());
        let mut lines = vec![format!("{method} {target} HTTP/1.1")];
        if !headers.iter().any(|header| header.starts_with("Host:")) {
            lines.push(host);
        }
        lines.extend(headers.iter().map(|&header| header.to_owned()));
        stream.write_all(format!("{}\r\n\r\n", lines.join("\r\n")).as_bytes()).unwrap();
        stream
    }

    /// Asks; the target goes over the wire exactly as it is.
    fn ask(&self, method: &str, target: &str, headers: &[&str]) -> Answer {
        let mut stream = self.open(method, target, &[headers, &["Connection: close"]].concat());
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        let end = bytes.windows(4).position(|w| w == b"\r\n\r\n").unwrap_or_else(|| panic!("no answer to {target}"));
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head, body: bytes[end + 4..].to_vec() }
    }

    fn get(&self, target: &str) -> Answer {
        self.ask("GET", target, &[])
    }
}

fn ran() -> Project {
    let project = Project::toy();
    project.run(&[]).ok();
    project
}

#[test]
fn the_page_comes_with_a_strict_policy_compressed_and_only_once() {
    let project = ran();
    let server = Server::local(&project);
    for (path, kind) in [("/", "text/html"), ("/app.js", "text/javascript"), ("/style.css", "text/css")] {
        let plain = server.get(path);
        assert_eq!(plain.status, 200, "{path}");
        assert!(plain.header("content-type").starts_with(kind), "{}", plain.head);
        let policy = plain.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self'"), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
        for (name, value) in [("x-content-type-options", "nosniff"), ("referrer-policy", "no-referrer")] {
            assert_eq!(plain.header(name), value);
        }
        let zipped = server.ask("GET", path, &["Accept-Encoding: br, gzip"]);
        assert_eq!(zipped.header("content-encoding"), "gzip");
        let mut text = Vec::new();
        flate2::read::GzDecoder::new(&zipped.body[..]).read_to_end(&mut text).unwrap();
        assert!(text == plain.body && zipped.body.len() < text.len() * 2 / 3, "{path}");
        assert_eq!(server.ask("GET", path, &["Accept-Encoding: gzip;q=0"]).header("content-encoding"), "");
        let again = server.ask("GET", path, &[&format!("If-None-Match: {}", plain.header("etag"))]);
        assert_eq!((again.status, again.body.len()), (304, 0));
        let head = server.ask("HEAD", path, &[]);
        assert_eq!((head.status, head.body.len()), (200, 0));
    }
    let page = server.get("/").text();
    assert!(!page.contains("http://") && !page.contains("https://"), "another host: {page}");
}

#[test]
fn answers_are_those_of_the_commands() {
    let project = ran();
    project.run(&["--set", "vars.n=5"]).ok();
    let server = Server::local(&project);
    let said = |words: &[&str]| project.logweir(words).ok().json();
    assert_eq!(server.get("/api/runs").json()["runs"], said(&["runs", "--json"])["runs"]);
    assert_eq!(server.get("/api/runs/last~1").json(), said(&["show", "last~1", "--json"]));
    assert_eq!(server.get("/api/diff?from=last~1&to=last").json(), said(&["diff", "last~1", "last", "--json"]));
    assert_eq!(server.get("/api/metrics?n=30").json(), said(&["metrics", "-n", "30", "--json"]));
    for (api, command) in [("lineage", "lineage"), ("impact", "impact")] {
        let target = if api == "lineage" { "out/count.json%23%2Flines" } else { "src%2Ftext.txt" };
        let plain = target.replace("%23", "#").replace("%2F", "/");
        let mut served = server.get(&format!("/api/{api}?target={target}")).json();
        assert!(served["layout"]["nodes"].as_array().unwrap().len() > 3);
        served.as_object_mut().unwrap().remove("layout");
        assert_eq!(served, said(&[command, &plain, "--json"]), "{api}");
    }
    let graph = server.get("/api/runs/last/graph").json();
    assert_eq!(graph["critical"]["stages"][0]["stage"], "head");
    let edges: Vec<_> = graph["edges"].as_array().unwrap().iter().map(|e| (&e["from"], &e["to"])).collect();
    assert_eq!(edges.len(), 2, "{graph}");
    let about = server.get("/api/overview").json();
    assert_eq!((&about["runs"], &about["busy"], &about["name"]), (&2.into(), &false.into(), &"toy".into()));
    // What cannot be answered says why, and what helps.
    let unknown = server.get("/api/runs/nonsense");
    assert_eq!(unknown.status, 404);
    let unknown: Value = serde_json::from_slice(&unknown.body).unwrap();
    assert!(unknown["message"].as_str().unwrap().contains("nonsense") && unknown["help"].is_string(), "{unknown}");
    assert_eq!(server.get("/api/alerts").status, 404);
    assert_eq!(server.get("/api/lineage?nonsense=1").status, 400);
}

#[test]
fn a_new_run_and_a_changed_pipeline_show_at_once() {
    let project = ran();
    let server = Server::local(&project);
    let runs = || server.get("/api/runs").json()["runs"].as_array().unwrap().len();
    assert_eq!((runs(), runs()), (1, 1));
    project.run(&["--force", "head"]).ok();
    assert_eq!(runs(), 2);
    project.write("pipeline.yaml", "version: 1\nnonsense: 1\n");
    assert!(server.get("/api/overview").json()["trouble"].is_string());
    assert_eq!(runs(), 2, "the pipeline before is used on");
}

#[test]
fn it_is_read_only() {
    let project = ran();
    let server = Server::local(&project);
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"] {
        for path in ["/", "/api/runs", "/reports/x", "/nowhere"] {
            let answer = server.ask(method, path, &["Content-Length: 0"]);
            assert_eq!((answer.status, answer.header("allow")), (405, "GET, HEAD"), "{method} {path}");
        }
    }
}

#[test]
fn no_path_leaves_the_project() {
    let project = ran();
    let secret = "only the owner may read this";
    project.write("secret.txt", secret);
    project.write("secret.json", &format!("{{\"a\": \"{secret}\"}}"));
    project.write("reports/page.html", "<p>shown</p>");
    project.write("reports/.hidden", secret);
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("o.json"), format!("{{\"a\": \"{secret}\"}}")).unwrap();
    std::os::unix::fs::symlink(project.path("secret.txt"), project.path("reports/link.txt")).unwrap();
    std::os::unix::fs::symlink(outside.path(), project.path("reports/folder")).unwrap();
    std::os::unix::fs::symlink(outside.path().join("o.json"), project.path("linked.json")).unwrap();
    let server = Server::local(&project);

    let shown = server.get("/reports/page.html");
    assert_eq!((shown.status, shown.text().as_str()), (200, "<p>shown</p>"));
    let policy = shown.header("content-security-policy");
    assert!(policy.starts_with("sandbox allow-scripts") && !policy.contains("allow-same-origin"), "{policy}");

    let outside = outside.path().display().to_string();
    let mut targets: Vec<String> = [
        "/reports/../secret.txt",
        "/reports/../../etc/passwd",
        "/reports/%2e%2e/secret.txt",
        "/reports/..%2fsecret.txt",
        "/reports/%2e%2e%2fsecret.txt",
        "/reports/%252e%252e%252fsecret.txt",
        "/reports/..\\secret.txt",
        "/reports/..%5csecret.txt",
        "/reports//etc/passwd",
        "/reports/%2fetc%2fpasswd",
        "/reports/./../secret.txt",
        "/reports/x/../../secret.txt",
        "/reports/page.html/../../secret.txt",
        "/reports/page.html%00.txt",
        "/reports/link.txt",
        "/reports/folder/o.json",
        "/reports/.hidden",
        "/reports/",
        "/secret.txt",
        "/../secret.txt",
        "//secret.txt",
        "/pipeline.yaml",
        "/cache/runlog.jsonl",
        "/api/runs/..%2f..%2fsecret.txt",
        "/api/lineage?target=/etc/passwd",
        "/api/lineage?target=..%2Fsecret.json%23%2Fa",
        "/api/lineage?target=out/../../x.json%23%2Fa",
        "/api/lineage?target=raw:..%2F..%2Fetc%2Fpasswd",
        "/api/lineage?target=linked.json%23%2Fa",
        "/api/impact?target=/etc/passwd",
    ]
    .map(str::to_owned)
    .to_vec();
    targets.push(format!("/api/lineage?target={}%2Fo.json%23%2Fa", outside.replace('/', "%2F")));
    for target in &targets {
        let answer = server.get(target);
        assert!((400..500).contains(&answer.status), "{target}: {} {}", answer.status, answer.text());
        assert!(!answer.text().contains(secret) && !answer.text().contains("root:x:"), "{target}: {}", answer.text());
    }
    // An absolute address in the request line names this server and nothing else.
    let proxied = server.get(&format!("http://127.0.0.1:{}/reports/../secret.txt", server.port()));
    assert!(proxied.status >= 400 && !proxied.text().contains(secret));
}

#[test]
fn another_name_for_this_machine_is_refused() {
    let project = ran();
    let server = Server::local(&project);
    for host in ["Host: evil.example", "Host: evil.example:8787", "Host: 127.0.0.1.evil.example", "Host: "] {
        let answer = server.ask("GET", "/api/runs", &[host]);
        assert_eq!(answer.status, 421, "{host}: {}", answer.text());
    }
    for host in ["Host: localhost", "Host: LOCALHOST:9", "Host: 127.0.0.1:1", "Host: [::1]:8787"] {
        assert_eq!(server.ask("GET", "/api/runs", &[host]).status, 200, "{host}");
    }
    assert_eq!(server.get("/api/runs").header("access-control-allow-origin"), "");
}

#[test]
fn other_hosts_need_the_token() {
    let project = ran();
    let mut server = Server::start(&project, "0.0.0.0:0");
    let mut line = String::new();
    BufReader::new(server.child.stderr.take().unwrap()).read_line(&mut line).unwrap();
    let token = line.split("?token=").nth(1).unwrap_or_else(|| panic!("no token in {line}")).split(' ').next().unwrap();
    assert_eq!(token.len(), 48, "{token}");
    for path in ["/", "/app.js", "/api/runs", "/api/events", "/reports/x", "/nowhere"] {
        let answer = server.get(path);
        assert_eq!((answer.status, answer.header("www-authenticate")), (401, "Bearer"), "{path}");
        assert!(!answer.text().contains(token));
    }
    let other = "0".repeat(48);
    for wrong in [
        format!("Authorization: Bearer {other}"),
        "Authorization: Bearer ".to_owned(),
        format!("Cookie: logweir-{}=", server.port()),
    ] {
        assert_eq!(server.ask("GET", "/api/runs", &[&wrong]).status, 401, "{wrong}");
    }
    assert_eq!(server.get(&format!("/?token={other}")).status, 401);
    assert_eq!(server.ask("GET", "/api/runs", &[&format!("Authorization: Bearer {token}")]).status, 200);
    let opened = server.get(&format!("/?token={token}"));
    assert_eq!((opened.status, opened.header("location")), (303, "/"));
    let cookie = opened.header("set-cookie").to_owned();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
    let cookie = format!("Cookie: other=1; {}", cookie.split(';').next().unwrap());
    assert_eq!(server.ask("GET", "/", &[&cookie]).status, 200);
    // Two servers never share one.
    let mut second = Server::start(&project, "0.0.0.0:0");
    let mut line = String::new();
    BufReader::new(second.child.stderr.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains("?token=") && !line.contains(token), "{line}");
}

/// Reads a stream of events until one fits.
fn until(stream: &mut impl std::io::BufRead, fits: impl Fn(&str, &Value) -> bool) -> Vec<(String, Value)> {
    let (mut seen, mut name) = (Vec::new(), String::new());
    loop {
        let mut line = String::new();
        assert!(stream.read_line(&mut line).unwrap() > 0, "the stream ended after {seen:?}");
        if let Some(event) = line.strip_prefix("event: ") {
            event.trim().clone_into(&mut name);
        } else if let Some(data) = line.strip_prefix("data: ") {
            let data: Value = serde_json::from_str(data).unwrap();
            seen.push((name.clone(), data));
            let (name, data) = seen.last().unwrap();
            if fits(name, data) {
                return seen;
            }
        }
    }
}

const SLOW: &str = r#"version: 1
name: slow
stages:
  wait: { run: "touch began; while [ ! -e go ]; do sleep 0.02; done; echo 1 > ${out.o}", out: { o: out/a.txt } }
  after: { run: "cp ${in.i} ${out.o}", in: { i: out/a.txt }, out: { o: out/b.txt } }
"#;

#[test]
fn a_run_is_followed_as_it_happens_and_from_its_middle() {
    let project = Project::new(SLOW);
    let server = Server::local(&project);
    let follow = || BufReader::new(server.open("GET", "/api/events", &[]));
    let mut early = follow();
    let hello = until(&mut early, |name, _| name == "hello");
    assert_eq!(hello[0].1["busy"], false);
    let mut run = project.command(&["run", "-q"]).spawn().unwrap();
    let started = |name: &str, data: &Value| name == "run" && data["event"] == "stage_started";
    let seen = until(&mut early, started);
    assert!(seen.iter().any(|(_, data)| data["event"] == "run_started"), "{seen:?}");
    assert_eq!(seen.last().unwrap().1["stage"], "wait");
    // Who comes in the middle is told the beginning.
    let mut late = follow();
    let seen = until(&mut late, started);
    assert!(seen[0].1["busy"] == true && seen.iter().any(|(_, data)| data["event"] == "run_started"), "{seen:?}");
    project.write("go", "");
    for stream in [&mut early, &mut late] {
        let seen = until(stream, |name, data| name == "run" && data["event"] == "run_finished");
        let finished: Vec<&str> = seen
            .iter()
            .filter(|(_, d)| d["event"] == "stage_finished")
            .map(|(_, d)| d["stage"].as_str().unwrap())
            .collect();
        assert_eq!(finished, ["wait", "after"]);
        assert_eq!(seen.last().unwrap().1["executed"], 2);
    }
    assert!(run.wait().unwrap().success());
    until(&mut early, |name, data| name == "history" && data["busy"] == false);
    // Of a run that ended nothing is told but that it is history.
    let mut after = follow();
    assert_eq!(until(&mut after, |name, _| name == "hello")[0].1["busy"], false);
}

#[test]
fn ctrl_c_ends_it_and_a_taken_address_says_what_helps() {
    let project = ran();
    let mut server = Server::local(&project);
    let taken = project.logweir(&["serve", "--addr", &server.addr]).exits(3);
    assert!(taken.err.contains("cannot listen at") && taken.err.contains("127.0.0.1:0"), "{}", taken.err);
    let wrong = project.logweir(&["serve", "--addr", "nonsense"]).exits(2);
    assert!(wrong.err.contains("no address to listen at"), "{}", wrong.err);
    // One that follows does not keep it.
    let mut follower = BufReader::new(server.open("GET", "/api/events", &[]));
    until(&mut follower, |name, _| name == "hello");
    assert!(Command::new("kill").args(["-INT", &server.child.id().to_string()]).status().unwrap().success());
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
}
