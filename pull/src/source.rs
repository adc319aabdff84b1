//! What a source is, by how it is written.

use std::path::{Path, PathBuf};

use url::Url;

use super::error::Error;
use super::hub::Repository;

/// One source of a pull.
#[derive(Debug, PartialEq)]
pub(super) enum Source {
    /// A folder of files.
    Tree(PathBuf),
    /// A list of addresses.
    List(FileLocation, Format),
    /// A tar of samples.
    Tar(FileLocation),
    /// One file of the web.
    File(Url),
    /// A repository of a hub.
    Hub(Repository),
}

/// Where a file is.
#[derive(Debug, PartialEq)]
pub(super) enum FileLocation {
    Local(PathBuf),
    Web(Url),
}

/// How a list is written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Format {
    Text,
    Csv,
    Tsv,
    Jsonl,
    Parquet,
}

impl Format {
    fn of(extension: &str) -> Option<Self> {
        match extension {
            "txt" => Some(Format::Text),
            "csv" => Some(Format::Csv),
            "tsv" => Some(Format::Tsv),
            "jsonl" | "ndjson" => Some(Format::Jsonl),
            "parquet" => Some(Format::Parquet),
            _ => None,
        }
    }
}

const WHAT: &str = "a source is a folder, a list of addresses (.txt, .csv, .tsv, .jsonl, .parquet) or a .tar, here or \
    behind http(s)://, one file behind http(s)://, or a repository of a hub as hf://datasets/OWNER/NAME[@REVISION][/PATH]";

/// Understand sources as they are written. A range such as `{000..127}` names many.
pub(super) fn parse(sources: &[String]) -> Result<Vec<Source>, Error> {
    let mut parsed = Vec::new();
    for source in sources.iter().map(|source| expand(source)).collect::<Result<Vec<_>, _>>()?.iter().flatten()
    {
        let source = one(source)?;
        // Named twice, it is still one.
        if !parsed.contains(&source) {
            parsed.push(source);
        }
    }
    Ok(parsed)
}

fn one(source: &str) -> Result<Source, Error> {
    if let Some(repository) = source.strip_prefix("hf://") {
        return Repository::parse(repository)
            .map(Source::Hub)
            .map_err(|why| Error::Usage(format!("{source}: {why}")));
    }
    let usage = |why: &str| Error::Usage(format!("{source}: {why}; {WHAT}"));
    if source.contains("://") {
        let mut url = Url::parse(source).map_err(|e| usage(&e.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(usage("only http, https and hf are known"));
        }
        url.set_fragment(None);
        return Ok(match extension(url.path()).as_str() {
            "tar" => Source::Tar(FileLocation::Web(url)),
            other => match Format::of(other) {
                Some(format) => Source::List(FileLocation::Web(url), format),
                None => Source::File(url),
            },
        });
    }
    let path = PathBuf::from(source);
    let kind = std::fs::metadata(&path).map_err(|e| usage(&e.to_string()))?;
    if kind.is_dir() {
        return Ok(Source::Tree(path));
    }
    if !kind.is_file() {
        return Err(usage("it is neither a file nor a folder"));
    }
    match extension(source).as_str() {
        "tar" => Ok(Source::Tar(FileLocation::Local(path))),
        other => match Format::of(other) {
            Some(format) => Ok(Source::List(FileLocation::Local(path), format)),
            None => Err(usage("a file of this kind is no source")),
        },
    }
}

fn extension(path: &str) -> String {
    Path::new(path).extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase()
}

/// Most sources that one range may name.
const MOST: u64 = 1_000_000;

/// Write out each `{FIRST..LAST}`, as WebDataset does; the numbers have as many digits as the first.
fn expand(source: &str) -> Result<Vec<String>, Error> {
    let Some((before, rest)) = source.split_once('{') else { return Ok(vec![source.to_owned()]) };
    let Some((range, after)) = rest.split_once('}') else { return Ok(vec![source.to_owned()]) };
    let number = |text: &str| text.parse::<u64>().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()));
    let ends = range.split_once("..").and_then(|(a, b)| Some((a.len(), number(a)?, number(b)?)));
    let Some((digits, first, last)) = ends else { return Ok(vec![source.to_owned()]) };
    let usage = |why: &str| Error::Usage(format!("{source}: the range {{{range}}} {why}"));
    if first > last {
        return Err(usage("runs backwards"));
    }
    let tails = expand(after)?;
    if (last - first).saturating_add(1).saturating_mul(tails.len() as u64) > MOST {
        return Err(usage("names more than a million sources"));
    }
    let numbers = (first..=last).map(|n| format!("{before}{n:0digits$}"));
    Ok(numbers.flat_map(|head| tails.iter().map(move |tail| format!("{head}{tail}"))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_told_apart_by_how_they_are_written() {
        let folder = tempfile::tempdir().unwrap();
        let list = folder.path().join("list.TXT");
        std::fs::write(&list, "").unwrap();
        let parse_one = |s: &str| parse(&[s.to_owned()]).map(|mut found| found.remove(0));
        let web = |s: &str| Url::parse(s).unwrap();
        let path = folder.path().to_str().unwrap();
        assert_eq!(parse_one(path).unwrap(), Source::Tree(path.into()));
        let file = list.to_str().unwrap();
        assert_eq!(parse_one(file).unwrap(), Source::List(FileLocation::Local(list.clone()), Format::Text));
        let a = "http://a.example/x.parquet?download=1";
        assert_eq!(parse_one(a).unwrap(), Source::List(FileLocation::Web(web(a)), Format::Parquet));
        assert_eq!(
            parse_one("http://a.example/x.tar#x").unwrap(),
            Source::Tar(FileLocation::Web(web("http://a.example/x.tar")))
        );
        assert_eq!(parse_one("http://a.example/x.jpg").unwrap(), Source::File(web("http://a.example/x.jpg")));
        for bad in ["ftp://a.example/x.txt", "http://", "/no/such/folder", "hf://", "/dev/null"] {
            let error = parse_one(bad).unwrap_err();
            assert!(matches!(&error, Error::Usage(why) if why.contains(bad)), "{error}");
        }
    }

    #[test]
    fn ranges_are_written_out_with_their_digits() {
        assert_eq!(
            expand("a{08..10}b{0..1}").unwrap(),
            ["a08b0", "a08b1", "a09b0", "a09b1", "a10b0", "a10b1"]
        );
        assert_eq!(expand("a{b}c").unwrap(), ["a{b}c"]);
        assert_eq!(expand("a{1..").unwrap(), ["a{1.."]);
        assert!(expand("a{3..1}").is_err());
        assert!(expand("a{0..99999999999}").is_err());
        let twice: Vec<String> = vec!["http://a.example/1.tar".into(), "http://a.example/{1..2}.tar".into()];
        assert_eq!(parse(&twice).unwrap().len(), 2);
    }
}
