//! The web page, which is part of the program.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};

/// The files of the page, by their names and types.
const FILES: [(&str, &str, &[u8]); 17] = [
    ("index.html", HTML, include_bytes!("../page/index.html")),
    ("style.css", "text/css; charset=utf-8", include_bytes!("../page/style.css")),
    ("icon.svg", "image/svg+xml", include_bytes!("../page/icon.svg")),
    ("answer.js", SCRIPT, include_bytes!("../page/answer.js")),
    ("api.js", SCRIPT, include_bytes!("../page/api.js")),
    ("app.js", SCRIPT, include_bytes!("../page/app.js")),
    ("composer.js", SCRIPT, include_bytes!("../page/composer.js")),
    ("dom.js", SCRIPT, include_bytes!("../page/dom.js")),
    ("markdown.js", SCRIPT, include_bytes!("../page/markdown.js")),
    ("media.js", SCRIPT, include_bytes!("../page/media.js")),
    ("recorder-worklet.js", SCRIPT, include_bytes!("../page/recorder-worklet.js")),
    ("recorder.js", SCRIPT, include_bytes!("../page/recorder.js")),
    ("request.js", SCRIPT, include_bytes!("../page/request.js")),
    ("settings.js", SCRIPT, include_bytes!("../page/settings.js")),
    ("store.js", SCRIPT, include_bytes!("../page/store.js")),
    ("theme.js", SCRIPT, include_bytes!("../page/theme.js")),
    ("view.js", SCRIPT, include_bytes!("../page/view.js")),
];

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// The page loads nothing from elsewhere, sends nothing elsewhere, and stands in no other page.
const POLICY: &str = "default-src 'self'; img-src 'self' data: blob:; media-src 'self' data: blob:; object-src 'none'; \
                      base-uri 'self'; form-action 'self'; frame-ancestors 'none'";

/// The file of a path; `None` where it is none of the page's.
pub(crate) fn file(path: &str) -> Option<Response> {
    let name = path.strip_prefix('/')?;
    let name = if name.is_empty() { "index.html" } else { name };
    let (_, kind, bytes) = FILES.iter().find(|(known, ..)| *known == name)?;
    let mut response = (StatusCode::OK, *bytes).into_response();
    let headers = [
        (header::CONTENT_TYPE, *kind),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        // Another version of the program has another page.
        (header::CACHE_CONTROL, "no-cache"),
    ];
    for (name, value) in headers {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    Some(response)
}

/// Whether a path is the page's.
pub(crate) fn is_page(path: &str) -> bool {
    path == "/" || path.strip_prefix('/').is_some_and(|name| FILES.iter().any(|(known, ..)| *known == name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_folder_is_served() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("page");
        let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
        let files = entries.filter(|entry| entry.path().is_file());
        let mut names: Vec<String> = files.map(|entry| entry.file_name().into_string().unwrap()).collect();
        let mut served: Vec<&str> = FILES.iter().map(|(name, ..)| *name).collect();
        names.sort();
        served.sort_unstable();
        assert_eq!(names, served);
        assert!(file("/").is_some() && file("/app.js").is_some() && is_page("/style.css"));
        assert!(file("/../Cargo.toml").is_none() && file("app.js").is_none() && !is_page("/v1/models"));
    }
}
