use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::*;
use crate::format::webdataset::Writer;

/// Datasets `a`, `b` ... of these sizes in shards of five.
fn write(folder: &Path, sizes: &[usize]) {
    for (dataset, &size) in sizes.iter().enumerate() {
        let name = char::from(b'a' + dataset as u8).to_string();
        let split = folder.join(&name).join("train");
        std::fs::create_dir_all(&split).unwrap();
        let keys: Vec<_> = (0..size).map(|at| format!("{name}{at}")).collect();
        for (shard, keys) in keys.chunks(5).enumerate() {
            let mut writer = Writer::create(&split.join(format!("{shard:05}.tar"))).unwrap();
            for key in keys {
                let text = Some(format!("text of {key}"));
                writer.push(&Sample { key: key.clone(), text, ..Sample::default() }).unwrap();
            }
            writer.finish().unwrap();
        }
    }
}

fn config(folder: &Path, weights: &[u32]) -> LoaderConfig {
    let datasets = weights.iter().enumerate().map(|(at, &weight)| DatasetConfig {
        path: folder.join(char::from(b'a' + at as u8).to_string()),
        split: Some("train".to_string()),
        weight,
    });
    LoaderConfig { datasets: datasets.collect(), seed: 3 }
}

fn open(config: &LoaderConfig) -> Arc<Loader> {
    Arc::new(Loader::open(config).unwrap())
}

/// What training would see: the draw, the sample's key and a random number of the draw.
type Seen = (Draw, String, u64);

fn see(draw: &Draw, sample: Sample) -> Result<Seen, String> {
    assert_eq!(sample.text, Some(format!("text of {}", sample.key)));
    Ok((*draw, sample.key, draw.chance(5).below(1 << 40) as u64))
}

fn stream(loader: &Arc<Loader>, position: Position, threads: usize) -> Stream<Seen> {
    loader.stream(position, Prefetch { threads, ahead: 3 }, see).unwrap()
}

fn seen(stream: &mut Stream<Seen>, n: usize) -> Vec<Seen> {
    stream.next_batch(n).unwrap().into_iter().map(|drawn| drawn.value).collect()
}

#[test]
fn resumed_at_fifty_places_it_gives_the_undisturbed_sequence() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &[23, 7, 11]);
    let config = config(folder.path(), &[5, 2, 4]);
    let whole = seen(&mut stream(&open(&config), open(&config).start(), 2), 400);
    let mut chance = whole[0].0.chance(9);
    for _ in 0..50 {
        let before = chance.below(399);
        // Killed with draws prepared ahead; what is kept is the text of its position.
        let mut first = stream(&open(&config), open(&config).start(), 1 + before % 4);
        assert_eq!(seen(&mut first, before), whole[..before]);
        let saved = serde_json::to_string(&first.position()).unwrap();
        drop(first);
        let mut second = stream(&open(&config), serde_json::from_str(&saved).unwrap(), 1 + before % 3);
        let n = (400 - before).min(30);
        assert_eq!(seen(&mut second, n), whole[before..before + n]);
    }
}

#[test]
fn an_epoch_has_every_sample_of_a_dataset_once() {
    let folder = tempfile::tempdir().unwrap();
    let sizes = [23, 7, 12];
    write(folder.path(), &sizes);
    let loader = open(&config(folder.path(), &[3, 1, 2]));
    let mut draws: BTreeMap<(usize, u64), Vec<usize>> = BTreeMap::new();
    for number in 0..360 {
        let draw = loader.draw(number);
        draws.entry((draw.dataset, draw.epoch)).or_default().push(draw.index);
    }
    for ((dataset, epoch), mut drawn) in draws.clone() {
        // The last epoch of a dataset is not through yet.
        if draws.contains_key(&(dataset, epoch + 1)) {
            drawn.sort_unstable();
            assert_eq!(drawn, (0..sizes[dataset]).collect::<Vec<_>>(), "{dataset} {epoch}");
        }
    }
    assert!(draws.len() > 10);
}

#[test]
fn order_does_not_depend_on_timing() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &[23]);
    let loader = open(&config(folder.path(), &[1]));
    let numbers = |threads: usize| -> Vec<usize> {
        let slow = |draw: &Draw, _: Sample| {
            std::thread::sleep(Duration::from_micros(draw.chance(0).below(900) as u64));
            Ok::<_, String>(draw.index)
        };
        let mut stream = loader.stream(loader.start(), Prefetch { threads, ahead: 2 }, slow).unwrap();
        stream.next_batch(60).unwrap().into_iter().map(|drawn| drawn.value).collect()
    };
    assert_eq!(numbers(1), numbers(4));
    assert_ne!(numbers(1)[..23], numbers(1)[23..46], "an epoch has its own order");
}

#[test]
fn a_bad_sample_is_replaced_and_named() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &[6, 4]);
    let loader = open(&config(folder.path(), &[1, 1]));
    let picky = |_: &Draw, sample: Sample| match sample.key.as_str() {
        "a3" | "a4" => Err(format!("{} is bad", sample.key)),
        _ => Ok(sample.key),
    };
    let mut stream = loader.stream(loader.start(), Prefetch::default(), picky).unwrap();
    let drawn = stream.next_batch(12).unwrap();
    let keys: Vec<_> = drawn.iter().map(|drawn| drawn.value.as_str()).collect();
    assert_eq!(keys.iter().filter(|key| key.starts_with('a')).count(), 6);
    assert_eq!(keys.iter().filter(|&&key| key == "a5").count(), 3);
    let whys: Vec<_> =
        drawn.iter().flat_map(|drawn| &drawn.refused).map(|refused| refused.why.as_str()).collect();
    assert_eq!(whys.len(), 3);
    assert!(whys.contains(&"a3 is bad") && whys.contains(&"a4 is bad"));
    // All bad is an error, and a panic in preparing is one too.
    let never = |_: &Draw, _: Sample| Err::<(), _>("no");
    let error = loader.stream(loader.start(), Prefetch::default(), never).unwrap().next_draw().unwrap_err();
    assert!(
        error.to_string().contains("6 samples in a row") || error.to_string().contains("4 samples"),
        "{error}"
    );
    let panics = |draw: &Draw, _: Sample| {
        if draw.number == 2 { panic!("expected by a test") } else { Ok::<_, String>(()) }
    };
    let mut stream = loader.stream(loader.start(), Prefetch::default(), panics).unwrap();
    let results = [0, 1, 2].map(|_| stream.next_draw());
    assert!(results[0].is_ok() && results[1].is_ok() && results[2].is_err());
}

/// Packed shards, and those without the mark of their end, are loaded as they are built from.
#[test]
fn packed_shards_give_the_same_samples() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &[30]);
    let config = config(folder.path(), &[1]);
    let split = Dataset::open(&config.datasets[0]).unwrap();
    let plain: Vec<Sample> = (0..split.len()).map(|at| split.read(at).unwrap()).collect();
    assert!(split.shards().len() > 2 && split.doubts().next().is_none());
    for (at, shard) in split.shards().iter().enumerate().take(3) {
        let bytes = std::fs::read(shard.path()).unwrap();
        match at {
            0 => std::fs::write(shard.path(), &bytes[..bytes.len() - 1024]).unwrap(),
            _ => {
                let place = shard.path().with_extension(if at == 1 { "tar.gz" } else { "tgz" });
                let file = std::fs::File::create(place).unwrap();
                let mut packed = flate2::write::GzEncoder::new(file, flate2::Compression::default());
                std::io::Write::write_all(&mut packed, &bytes).unwrap();
                packed.finish().unwrap();
                std::fs::remove_file(shard.path()).unwrap();
            }
        }
    }
    let changed = Dataset::open(&config.datasets[0]).unwrap();
    let read: Vec<Sample> = (0..changed.len()).map(|at| changed.read(at).unwrap()).collect();
    assert_eq!(read, plain);
    let doubts: Vec<String> = changed.doubts().collect();
    assert!(
        doubts.len() == 1 && doubts[0].contains("00000.tar: the mark of its end is missing"),
        "{doubts:?}"
    );
}

#[test]
fn what_cannot_be_loaded_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &[3]);
    let good = config(folder.path(), &[1]);
    let error = |config: &LoaderConfig| Loader::open(config).err().unwrap().to_string();
    assert!(error(&config(folder.path(), &[1, 1])).contains("cannot be read"));
    assert!(error(&config(folder.path(), &[0])).contains("weight"));
    assert!(error(&LoaderConfig { datasets: Vec::new(), ..good.clone() }).contains("at least one"));
    let mut empty = good.clone();
    empty.datasets[0].split = None;
    // A corpus of one split needs no word on which.
    assert_eq!(Loader::open(&empty).unwrap().datasets()[0].split(), "train");
    empty.datasets[0].path = folder.path().join("nothing");
    std::fs::create_dir(&empty.datasets[0].path).unwrap();
    assert!(error(&empty).contains("without shards"));
    let rows = folder.path().join("rows.jsonl");
    std::fs::write(&rows, "{\"text\": \"one\"}\n").unwrap();
    let mut lines = empty.clone();
    lines.datasets[0].path = rows;
    assert!(error(&lines).contains("percept data build"), "{}", error(&lines));
    // A position of other data.
    let position = Loader::open(&good).unwrap().start();
    let other = open(&LoaderConfig { seed: 4, ..good });
    assert!(
        other.stream(position, Prefetch::default(), see).err().unwrap().to_string().contains("other data")
    );
}

#[test]
fn packed_batches_lose_nothing_and_resume_anywhere() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &[23]);
    let loader = open(&config(folder.path(), &[1]));
    let length = |seen: &Seen| 1 + (seen.2 % 10) as usize;
    let batches = |position, count: usize| -> Vec<Packed<Seen>> {
        let mut batches = PackedBatches::new(stream(&loader, position, 2), 3, 10, length);
        (0..count).map(|_| batches.next_batch().unwrap()).collect()
    };
    let flat = |batch: &Packed<Seen>| {
        let mut numbers: Vec<_> = batch.rows.iter().flatten().map(|drawn| drawn.draw.number).collect();
        numbers.sort_unstable();
        numbers
    };
    let whole = batches(loader.start(), 40);
    let numbers: Vec<_> = whole.iter().flat_map(flat).collect();
    assert_eq!(numbers, (0..numbers.len() as u64).collect::<Vec<_>>());
    let mut tokens = 0;
    for batch in &whole {
        assert!(
            batch.rows.iter().all(|row| row.iter().map(|drawn| length(&drawn.value)).sum::<usize>() <= 10)
        );
        tokens += batch.rows.iter().flatten().map(|drawn| length(&drawn.value)).sum::<usize>();
    }
    assert!(tokens * 10 > 40 * 30 * 7, "rows are filled to {tokens} of {}", 40 * 30);
    for at in [0, 7, 22, 38] {
        let resumed: Vec<_> = batches(whole[at].position, 2).iter().map(flat).collect();
        let expected: Vec<_> = whole[at + 1..].iter().take(2).map(flat).collect();
        assert_eq!(resumed[..expected.len()], expected);
    }
    let mut short = PackedBatches::new(stream(&loader, loader.start(), 2), 3, 5, length);
    let error = (0..40).find_map(|_| short.next_batch().err()).unwrap().to_string();
    assert!(error.contains("tokens and a row has 5"), "{error}");
}
