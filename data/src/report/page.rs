//! One HTML file that needs no other.

use std::fmt::Write as _;

use super::Card;

const STYLE: &str = "
:root { color-scheme: light; font: 15px/1.5 system-ui, sans-serif; color: #1b2430; background: #f6f7f9; }
body { max-width: 960px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin: 0 0 .25rem; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
p { margin: .25rem 0 .75rem; color: #4b5866; }
table { border-collapse: collapse; background: #fff; } th, td { padding: .3rem .8rem; border-bottom: 1px solid #e3e7ec; text-align: left; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
svg { background: #fff; max-width: 100%; height: auto; border: 1px solid #e3e7ec; border-radius: 4px; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(200px, 1fr)); gap: .75rem; }
.card { background: #fff; border: 1px solid #e3e7ec; border-radius: 4px; padding: .5rem; overflow-wrap: anywhere; font-size: .85rem; }
.card img { max-width: 100%; max-height: 180px; display: block; margin: 0 auto .4rem; image-rendering: auto; }
.card img.small { image-rendering: pixelated; width: 96px; } .card svg { border: 0; }
.card .key { color: #6a7684; font-size: .75rem; }
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

    /// A heading.
    pub fn heading(&mut self, text: &str) -> &mut Self {
        self.add(&format!("<h2>{}</h2>\n", escape(text)))
    }

    /// A paragraph.
    pub fn text(&mut self, text: &str) -> &mut Self {
        self.add(&format!("<p>{}</p>\n", escape(text)))
    }

    /// A chart, as the functions beside this make them.
    pub fn chart(&mut self, svg: &str) -> &mut Self {
        self.add(&format!("<div>{svg}</div>\n"))
    }

    /// A table; columns of `numbers` are aligned on the right.
    pub fn table(&mut self, header: &[&str], numbers: &[usize], rows: &[Vec<String>]) -> &mut Self {
        let class = |at: usize| if numbers.contains(&at) { " class=\"number\"" } else { "" };
        let mut out = String::from("<table><tr>");
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
        out.push_str("</table>\n");
        self.add(&out)
    }

    /// Cards side by side.
    pub fn cards(&mut self, cards: &[Card]) -> &mut Self {
        let all: String = cards.iter().map(Card::html).collect();
        self.add(&format!("<div class=\"cards\">{all}</div>\n"))
    }

    fn add(&mut self, html: &str) -> &mut Self {
        self.body.push_str(html);
        self
    }

    /// The file.
    pub fn html(&self) -> String {
        format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n<meta name=\"viewport\" \
             content=\"width=device-width\">\n<title>{}</title>\n<style>{STYLE}</style></head>\n<body>\n{}</body></html>\n",
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
