//! `lapidary watch`: the report of a run while it goes on, in a browser.
use crate::error::{Error, Result};
use crate::options::WatchOptions;
use crate::report::{open_all, page};
use tiny_http::{Header, Response, Server, StatusCode};

/// Seconds after which the browser asks again.
const REFRESH: u32 = 5;

/// Serves the page until the program is stopped. Only this machine is listened to unless `host` says otherwise.
pub fn run(options: &WatchOptions) -> Result<()> {
    let watched = &options.watched;
    open_all(&watched.run_dirs.0)?;
    let place = format!("{}:{}", watched.host, watched.port);
    let server = Server::http(&place).map_err(|e| Error::Input(format!("cannot listen at {place}: {e}")))?;
    tell!("watching at http://{} (Ctrl-C ends it)", server.server_addr());
    loop {
        let request = match server.recv() {
            Ok(request) => request,
            Err(e) => return Err(Error::Output(format!("{place}: {e}"))),
        };
        let (status, body) = answer(request.url(), options);
        let html = Header::from_bytes("Content-Type", "text/html; charset=utf-8").into_iter();
        let response = html.fold(Response::from_string(body).with_status_code(status), Response::with_header);
        // A browser that has gone away is no reason to end.
        let _ = request.respond(response);
    }
}

/// The page, made anew from the files as they are now.
fn answer(url: &str, options: &WatchOptions) -> (StatusCode, String) {
    if url != "/" {
        return (StatusCode(404), "there is only /".into());
    }
    match open_all(&options.watched.run_dirs.0).and_then(|runs| page::of(&runs, Some(REFRESH))) {
        Ok(page) => (StatusCode(200), page),
        Err(error) => (StatusCode(500), page::trouble(&error.to_string(), REFRESH)),
    }
}
