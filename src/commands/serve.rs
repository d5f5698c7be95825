//! `serve`: the web page, until Ctrl-C.

use std::net::{SocketAddr, TcpListener, ToSocketAddrs as _};

use anyhow::{Context as _, anyhow};
use serde_json::json;

use crate::cli::{Global, ServeArgs};
use crate::commands::{Outcome, find, limit_polars, open, stop_on_signal};
use crate::render::diagnostic::Failure;
use crate::render::{Screen, to_stderr};
use crate::serve::{self, Server};

pub(super) fn serve(global: &Global, args: &ServeArgs, screen: &Screen) -> Outcome {
    limit_polars(None);
    let project = find(global)?;
    // Answers are given from within the project; what was given relative to the current directory is looked for here.
    let global = Global {
        directory: Some(project.root().to_path_buf()),
        file: Some(project.file().to_path_buf()),
        ..global.clone()
    };
    let engine = open(&global)?;
    let listener = bind(&args.addr)?;
    let address = listener.local_addr().context("a bound socket has no address").map_err(Failure::environment)?;
    let server = Server::new(&global, engine, address)?;
    let url = server.url();
    if screen.json {
        screen.json(&json!({"event": "serving", "addr": address.to_string()}))?;
    }
    // Said also with -q: nobody can guess the token.
    if server.is_open() || !(screen.quiet || screen.json) {
        let who = if server.is_open() { "for whoever has this address" } else { "for this machine alone" };
        to_stderr(&format!("{url}  ({who}; Ctrl-C stops)\n"));
    }
    let stop = serve::Stop::default();
    let asked = stop.clone();
    // A signal is the usual end.
    let _signalled = stop_on_signal(move || asked.stop())?;
    server.run(listener, &stop).map_err(Failure::environment)?;
    Ok(0)
}

fn bind(addr: &str) -> Result<TcpListener, Failure> {
    let wrong = |error: anyhow::Error| {
        Failure::usage(error.context(format!("`{addr}` is no address to listen at")))
            .help("HOST:PORT, e.g. 127.0.0.1:8787; port 0 is any free one")
    };
    let places: Vec<SocketAddr> = addr.to_socket_addrs().map_err(|e| wrong(e.into()))?.collect();
    if places.is_empty() {
        return Err(wrong(anyhow!("the name has no address")));
    }
    TcpListener::bind(&places[..]).map_err(|error| {
        Failure::environment(anyhow::Error::new(error).context(format!("cannot listen at {addr}")))
            .help("another program may listen there: `--addr 127.0.0.1:0` takes any free port")
    })
}
