//! The processors of the families: prompts with a placeholder for every feature row, images and frames as
//! their towers read them. Each reads its checkpoint's own processor files and makes the arrays that Hugging
//! Face's makes.

pub mod anyres;
mod gemma3;
mod gemma4;
mod glm4v;
mod granite_docling;
mod internvl;
mod lfm2_vl;
mod llava;
mod llava_anyres;
mod naflex;
mod native;
mod paddleocr;
mod paligemma;
mod pixtral;
mod prompt;
mod qwen_vl;
mod settings;
mod smolvlm;
mod sound;
mod still;
mod transcript;
mod words;

pub use gemma3::Gemma3;
pub use gemma4::Gemma4;
pub use glm4v::{Glm4v, GlmVersion};
pub use granite_docling::GraniteDocling;
pub use internvl::InternVl;
pub use lfm2_vl::Lfm2Vl;
pub use llava::{CLIP_STILL, Llava, Tower};
pub use llava_anyres::LlavaAnyres;
pub use naflex::NaFlex;
pub use native::{NATIVE_TOKENS, Native, NativeMedia};
pub use paddleocr::PaddleOcr;
pub use paligemma::PaliGemma;
pub use pixtral::Pixtral;
pub use prompt::{Placeholder, Prompt, insert_i64, mark_tokens, refuse, rows};
pub use qwen_vl::{QwenVersion, QwenVl};
pub use settings::{CLIP_NORMALIZE, HALF_NORMALIZE, IMAGENET_NORMALIZE, ProcessorFiles, Settings, Size};
pub use smolvlm::SmolVlm;
pub use sound::{ClipLength, Heard, Sound, SoundPrompt};
pub use still::{Still, StillDefaults};
pub use transcript::Transcript;
