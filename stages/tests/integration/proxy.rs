//! A proxy before a server that lets a test do something in the middle of a load.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What happens when enough bytes went to the server.
pub(crate) enum Then {
    /// Both directions fall silent, and the connections stay open.
    Silence,
    /// This is done, once; then bytes flow again, as far as the server takes them.
    Do(Box<dyn Fn() + Send + Sync>),
}

/// Starts a proxy before a port of 127.0.0.1; `then` happens once, after so many bytes of all connections together. Returns its port.
pub(crate) fn proxy(to: u16, after: u64, then: Then) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (passed, then) = (Arc::new(AtomicU64::new(0)), Arc::new(then));
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let Ok(client) = client else { return };
            // While the server is down a connection to it is refused, and so is the one here.
            let Ok(server) = TcpStream::connect(("127.0.0.1", to)) else { continue };
            let (passed, then) = (Arc::clone(&passed), Arc::clone(&then));
            let back = (server.try_clone().unwrap(), client.try_clone().unwrap());
            let silent = Arc::clone(&passed);
            let quiet = matches!(*then, Then::Silence);
            std::thread::spawn(move || {
                pass(back.0, back.1, |_| quiet && silent.load(Ordering::SeqCst) >= after);
            });
            std::thread::spawn(move || {
                pass(client, server, |bytes| {
                    let before = passed.fetch_add(bytes, Ordering::SeqCst);
                    let now = before < after && before + bytes >= after;
                    match &*then {
                        Then::Silence => before + bytes >= after,
                        Then::Do(what) => {
                            if now {
                                what();
                            }
                            false
                        }
                    }
                });
            });
        }
    });
    port
}

/// Copies bytes until one side ends; those that `swallow` says so of go nowhere, and nothing after them does.
fn pass(mut from: TcpStream, mut to: TcpStream, mut swallow: impl FnMut(u64) -> bool) {
    let mut buffer = vec![0; 1 << 14];
    let mut silent = false;
    loop {
        match from.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(n) => {
                silent = silent || swallow(n as u64);
                if !silent && to.write_all(&buffer[..n]).is_err() {
                    break;
                }
            }
        }
    }
    // The end of a silent connection is not told either.
    if !silent {
        let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
    }
}
