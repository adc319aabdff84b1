//! Images and captions drawn from a seed, for tests and for measuring.

use percept_data::chance::Chance;
use percept_modalities::image::{Filter, Image, resize};

/// An image of its own: soft colours, a few shapes before them, and grain.
pub fn image(seed: u64, width: usize, height: usize) -> Image {
    let mut chance = Chance::new(seed, 0, 0);
    let (columns, rows) = (2 + chance.below(6), 2 + chance.below(6));
    let mut level = || chance.between(0.0, 256.0) as u8;
    let coarse =
        Image { width: columns, height: rows, rgb: (0..3 * columns * rows).map(|_| level()).collect() };
    let mut image = resize(&coarse, width, height, Filter::Bicubic).unwrap();
    for _ in 0..chance.below(6) {
        let colour = [(); 3].map(|()| chance.between(0.0, 256.0) as u8);
        let (x, y) = (chance.between(0.0, 1.0) * width as f64, chance.between(0.0, 1.0) * height as f64);
        let size = [(); 2].map(|()| chance.between(0.05, 0.35) * width.min(height) as f64);
        let is_round = chance.coin();
        for (at, pixel) in image.rgb.chunks_exact_mut(3).enumerate() {
            let (dx, dy) = (((at % width) as f64 - x) / size[0], ((at / width) as f64 - y) / size[1]);
            if if is_round { dx * dx + dy * dy < 1.0 } else { dx.abs().max(dy.abs()) < 1.0 } {
                pixel.copy_from_slice(&colour);
            }
        }
    }
    let grain = 1 + chance.below(24) as u64;
    let mut noise = seed | 1;
    for value in &mut image.rgb {
        // Marsaglia's xorshift is plenty for grain.
        noise ^= noise << 13;
        noise ^= noise >> 7;
        noise ^= noise << 17;
        *value = value.saturating_add((noise % grain) as u8).saturating_sub((grain / 2) as u8);
    }
    image
}

const THINGS: &str = "dog bicycle lighthouse teapot violin tractor penguin umbrella cathedral backpack sailboat cactus \
    typewriter waterfall market elephant pumpkin locomotive harbour wall meadow sunflower lake window newspaper kitten \
    staircase road balloon mirror orchard candle bridge fountain lantern notebook helmet guitar orange pillow desert \
    ladder rooster skyline carpet volcano bakery surfer goat bench kettle statue pigeon scarf glacier tunnel canoe \
    telescope chessboard lemon";
const QUALITIES: &str = "small large old shiny broken painted wooden striped pale empty crowded frozen muddy golden rusty \
    quiet enormous narrow purple dusty wet ancient fluffy transparent crooked bright sleepy abandoned plastic woollen \
    curious spotted gentle steep curved modern faded hollow sunlit heavy";
const DOINGS: &str = "leaning standing resting floating hiding turning sleeping burning waiting rolling hanging climbing \
    shining falling sitting growing spinning drifting lying melting";
const PLACES: &str = "against behind near above under towards beside across inside beyond around below";

/// A caption of about a dozen words.
pub fn caption(seed: u64) -> String {
    let mut chance = Chance::new(seed, 1, 0);
    let mut one = |words: &str| another(words, &mut chance);
    format!(
        "{} {} {} {} {} a {} {} and the {} {}",
        one("a one the some that this"),
        one(QUALITIES),
        one(THINGS),
        one(DOINGS),
        one(PLACES),
        one(QUALITIES),
        one(THINGS),
        one(QUALITIES),
        one(THINGS),
    )
}

/// One of a list of words.
fn another(words: &str, chance: &mut Chance) -> String {
    let words: Vec<&str> = words.split_whitespace().collect();
    words[chance.below(words.len())].to_owned()
}

/// A caption with one word exchanged for another.
pub fn reworded(text: &str, chance: &mut Chance) -> String {
    let mut words: Vec<String> = text.split(' ').map(String::from).collect();
    let place = chance.below(words.len());
    while words[place] == text.split(' ').nth(place).unwrap_or_default() {
        words[place] = another(if chance.coin() { THINGS } else { QUALITIES }, chance);
    }
    words.join(" ")
}
