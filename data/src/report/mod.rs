//! Pages that show what there is: charts as SVG, cards of samples, and everything in one self-contained HTML
//! file.

mod card;
mod chart;
mod page;

pub(crate) use card::encoded_image_card;
pub use card::{Card, audio_card, image_card, video_card};
pub use chart::{Series, bars, confusion, lines};
pub use page::{Page, escape};
