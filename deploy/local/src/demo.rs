//! A small web server for the demo site: files from one folder, with the collector's address put into the pages.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::net::TcpListener;

/// What stands in the pages where the collector's address belongs.
const PLACEHOLDER: &str = "{{COLLECTOR}}";

/// The demo site. Files are read anew for each request, so that a page can be changed while it runs.
#[derive(Debug)]
pub struct DemoSite {
    folder: PathBuf,
    collector: String,
}

impl DemoSite {
    /// A site from the files in `folder`, whose pages send their hits to `collector` (`http://host:port`).
    #[must_use]
    pub fn new(folder: &Path, collector: &str) -> Self {
        Self { folder: folder.to_owned(), collector: collector.to_owned() }
    }

    /// Opens 127.0.0.1:`port` and answers in the background for as long as the runtime lives. Returns the address;
    /// with port 0 the system chooses one.
    ///
    /// # Errors
    /// When the port is in use.
    pub async fn serve(self, port: u16) -> std::io::Result<SocketAddr> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let address = listener.local_addr()?;
        tokio::spawn(accept(listener, Arc::new(self)));
        Ok(address)
    }

    /// The file that answers a path: pages may be named without their ending, and every path below `/app/` is the
    /// single-page application's.
    fn file(&self, path: &str) -> Option<PathBuf> {
        let inside = path.trim_start_matches('/');
        let harmless = inside.split('/').all(|part| !part.starts_with('.') && !part.contains(['\\', '%', '\0']));
        if !harmless {
            return None;
        }
        let named = self.folder.join(inside);
        let candidates = [named.clone(), named.join("index.html"), self.folder.join(format!("{inside}.html"))];
        let application = inside.starts_with("app/").then(|| self.folder.join("app/index.html"));
        candidates.into_iter().chain(application).find(|file| file.is_file())
    }

    async fn answer(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        if method != Method::GET && method != Method::HEAD {
            return response(StatusCode::METHOD_NOT_ALLOWED, "text/plain; charset=utf-8", "only GET\n".into());
        }
        let Some(file) = self.file(path) else {
            return response(StatusCode::NOT_FOUND, "text/plain; charset=utf-8", "no such page\n".into());
        };
        match tokio::fs::read(&file).await {
            Ok(bytes) => response(StatusCode::OK, content_type(&file), self.filled_in(&file, bytes)),
            Err(problem) => {
                let text = format!("{problem}\n").into();
                response(StatusCode::INTERNAL_SERVER_ERROR, "text/plain; charset=utf-8", text)
            }
        }
    }

    fn filled_in(&self, file: &Path, bytes: Vec<u8>) -> Bytes {
        if content_type(file).starts_with("text/html") {
            return String::from_utf8_lossy(&bytes).replace(PLACEHOLDER, &self.collector).into();
        }
        bytes.into()
    }
}

async fn accept(listener: TcpListener, site: Arc<DemoSite>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of file handles, most likely: some will be free again in a moment.
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            continue;
        };
        let site = Arc::clone(&site);
        let service = service_fn(move |request: Request<hyper::body::Incoming>| {
            let site = Arc::clone(&site);
            async move { Ok::<_, Infallible>(site.answer(request.method(), request.uri().path()).await) }
        });
        let mut http = hyper::server::conn::http1::Builder::new();
        http.timer(TokioTimer::new());
        tokio::spawn(http.serve_connection(TokioIo::new(stream), service));
    }
}

fn response(status: StatusCode, content_type: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn content_type(file: &Path) -> &'static str {
    match file.extension().and_then(|ending| ending.to_str()) {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js" | "mjs") => "text/javascript; charset=utf-8",
        Some("json") => "application/json",
        Some("pdf") => "application/pdf",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("jpg" | "jpeg") => "image/jpeg",
        Some("txt") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn site() -> (tempfile::TempDir, DemoSite) {
        let directory = tempfile::tempdir().unwrap();
        let folder = directory.path().join("demo");
        fs::create_dir_all(folder.join("app")).unwrap();
        fs::write(folder.join("index.html"), "home {{COLLECTOR}}/t.js").unwrap();
        fs::write(folder.join("search.html"), "search").unwrap();
        fs::write(folder.join("app/index.html"), "application").unwrap();
        fs::write(folder.join("sheet.pdf"), b"%PDF {{COLLECTOR}}").unwrap();
        fs::write(directory.path().join("secret.txt"), "secret").unwrap();
        let site = DemoSite::new(&folder, "http://127.0.0.1:8080");
        (directory, site)
    }

    #[tokio::test]
    async fn the_server_answers_pages_with_the_collectors_address_in_them() {
        let (_directory, site) = site();
        let address = site.serve(0).await.unwrap();
        assert!(address.ip().is_loopback());
        let get = move |path: &'static str| {
            tokio::task::spawn_blocking(move || {
                let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
                let mut answer = agent.get(format!("http://{address}{path}")).call().unwrap();
                let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
                (answer.status().as_u16(), kind, answer.body_mut().read_to_string().unwrap())
            })
        };
        let html = "text/html; charset=utf-8".to_owned();
        assert_eq!(get("/").await.unwrap(), (200, html.clone(), "home http://127.0.0.1:8080/t.js".to_owned()));
        assert_eq!(get("/search?q=pump").await.unwrap(), (200, html.clone(), "search".to_owned()));
        assert_eq!(get("/app/deep/route").await.unwrap(), (200, html, "application".to_owned()));
        // Only pages are filled in.
        let pdf = ("application/pdf".to_owned(), "%PDF {{COLLECTOR}}".to_owned());
        assert_eq!(get("/sheet.pdf").await.unwrap(), (200, pdf.0, pdf.1));
        assert_eq!(get("/missing").await.unwrap().0, 404);
    }

    #[tokio::test]
    async fn nothing_outside_the_folder_is_served() {
        let (_directory, site) = site();
        for path in
            ["/../secret.txt", "/%2e%2e/secret.txt", "//../secret.txt", "/app/../../secret.txt", "/./.././secret.txt"]
        {
            assert_eq!(site.answer(&Method::GET, path).await.status(), StatusCode::NOT_FOUND, "{path}");
        }
        assert_eq!(site.answer(&Method::POST, "/").await.status(), StatusCode::METHOD_NOT_ALLOWED);
    }
}
