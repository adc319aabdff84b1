//! One HTML file that needs no other.

use std::fmt::Write as _;

use super::Card;

const STYLE: &str = "
:root { color-scheme: light dark; --ink: #1b2430; --soft: #4b5866; --paper: #fff; --ground: #f6f7f9; --line: #e3e7ec;
  font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--ground); }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6eaf0; --soft: #a7b2bf; --paper: #1d242d; --ground: #12171d; --line: #36414d; }
}
body { max-width: 960px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .25rem; } h1, h2, p { overflow-wrap: anywhere; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
p { margin: .25rem 0 .75rem; color: var(--soft); }
.wide { overflow-x: auto; margin: .25rem 0 .75rem; }
table { border-collapse: collapse; background: var(--paper); }
th, td { padding: .3rem .8rem; border-bottom: 1px solid var(--line); text-align: left; overflow-wrap: anywhere; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; overflow-wrap: normal; }
td { min-width: 4rem; }
svg { background: var(--paper); color: var(--ink); max-width: 100%; height: auto; border: 1px solid var(--line); border-radius: 4px; }
figure { margin: .5rem 0 1.25rem; } figcaption { color: var(--soft); font-size: .9rem; max-width: 46rem; }
details { margin: .4rem 0; } summary { cursor: pointer; overflow-wrap: anywhere; }
pre { background: var(--paper); border: 1px solid var(--line); border-radius: 4px; padding: .5rem .75rem; overflow-x: auto; font-size: .8rem; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(200px, 100%), 1fr)); gap: .75rem; }
.card { background: var(--paper); border: 1px solid var(--line); border-radius: 4px; padding: .5rem; overflow-wrap: anywhere; font-size: .85rem; }
.card img, .card video { max-width: 100%; max-height: 180px; display: block; margin: 0 auto .4rem; }
.card img.small { image-rendering: pixelated; width: 96px; } .card svg { border: 0; }
.card video.small { image-rendering: pixelated; width: 176px; }
.card audio { width: 100%; height: 2.2rem; margin-bottom: .3rem; }
.card img.spectrogram { width: 100%; height: 72px; max-height: none; image-rendering: pixelated; }
.card .key { color: var(--soft); font-size: .75rem; }
.sample { min-width: 0; } .sample details { font-size: .8rem; } .sample pre { max-height: 20rem; overflow: auto; white-space: pre-wrap; }
.filters label { margin-right: .5rem; } .filters select, .filters input { font: inherit; max-width: 100%; }
@media (max-width: 560px) { th, td { padding: .3rem .35rem; font-size: .8rem; } td { min-width: 2.5rem; } td:first-child { min-width: 4.2rem; } }
";

/// A page being put together.
pub struct Page {
    body: String,
    title: String,
}

impl Page {
    /// A page with a title and a line below it.
    pub fn new(title: &str, subtitle: &str) -> Self {
        let body = format!("<h1>{}</h1>\n<p>{}</p>\n", escape(title), escape(subtitle));
        Self { body, title: title.to_owned() }
    }

    /// Add a heading.
    pub fn heading(&mut self, text: &str) -> &mut Self {
        self.add(&format!("<h2>{}</h2>\n", escape(text)))
    }

    /// Add a paragraph of text.
    pub fn text(&mut self, text: &str) -> &mut Self {
        self.add(&format!("<p>{}</p>\n", escape(text)))
    }

    /// A chart, as the functions beside this make them.
    pub fn chart(&mut self, svg: &str) -> &mut Self {
        self.add(&format!("<div>{svg}</div>\n"))
    }

    /// A chart with what it shows and how to read it.
    pub fn figure(&mut self, svg: &str, explanation: &str) -> &mut Self {
        let caption = escape(explanation);
        self.add(&format!("<figure>{svg}<figcaption>{caption}</figcaption></figure>\n"))
    }

    /// A file's text, folded away under its name.
    pub fn file(&mut self, name: &str, text: &str) -> &mut Self {
        let (name, text) = (escape(name), escape(text));
        self.add(&format!("<details><summary>{name}</summary><pre tabindex=\"0\">{text}</pre></details>\n"))
    }

    /// A table; columns of `numbers` are aligned on the right.
    pub fn table(&mut self, header: &[&str], numbers: &[usize], rows: &[Vec<String>]) -> &mut Self {
        let class = |at: usize| if numbers.contains(&at) { " class=\"number\"" } else { "" };
        let mut out = String::from("<div class=\"wide\" tabindex=\"0\"><table><tr>");
        for (at, name) in header.iter().enumerate() {
            // Writing into a string cannot fail.
            let _ = write!(out, "<th{}>{}</th>", class(at), escape(name));
        }
        out.push_str("</tr>\n");
        for row in rows {
            out.push_str("<tr>");
            for (at, cell) in row.iter().enumerate() {
                let _ = write!(out, "<td{}>{}</td>", class(at), escape(cell));
            }
            out.push_str("</tr>\n");
        }
        out.push_str("</table></div>\n");
        self.add(&out)
    }

    /// Cards side by side.
    pub fn cards(&mut self, cards: &[Card]) -> &mut Self {
        let all: String = cards.iter().map(Card::html).collect();
        self.add(&format!("<div class=\"cards\">{all}</div>\n"))
    }

    /// Add HTML as it is: whatever in it comes from outside has gone through [`escape`].
    pub fn html_of(&mut self, html: &str) -> &mut Self {
        self.add(html)
    }

    fn add(&mut self, html: &str) -> &mut Self {
        self.body.push_str(html);
        self
    }

    /// The page as the text of an HTML file.
    pub fn html(&self) -> String {
        format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n<meta name=\"viewport\" \
             content=\"width=device-width, initial-scale=1\">\n<title>{}</title>\n<style>{STYLE}</style></head>\n<body><main>\n{}</main></body></html>\n",
            escape(&self.title),
            self.body
        )
    }
}

/// Text as HTML shows it.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            letter => out.push(letter),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_corpus_says_is_shown_and_never_run() {
        let mut page = Page::new("<script>", "a & b");
        page.table(&["name"], &[], &[vec!["<img src=x onerror=alert(1)>".into()]]);
        let html = page.html();
        assert!(!html.contains("<script>") && !html.contains("<img src=x"));
        assert!(html.contains("&lt;script&gt;") && html.contains("a &amp; b"));
        assert!(!html.contains("http"), "the page needs nothing from elsewhere");
    }
}
