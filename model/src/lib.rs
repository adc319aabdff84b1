//! The unified transformer, checkpoints, and one file per model family.
//!
//! A family reads `config.json` into a [`Decoder`] of [`BlockSpec`]s and, where it has them, encoders;
//! tracing those over [`Parameters`] gives graphs whose parameters are named as in the checkpoint.
//! [`Weights`] brings these to a device. A session sees a model as a [`CausalModel`].

mod audio;
mod block;
mod cache;
mod causal;
pub mod checkpoint;
mod config;
pub mod connector;
mod contrastive;
mod convolution;
mod decoder;
mod error;
pub mod family;
mod frames;
pub mod hub;
mod image_encoder;
mod latent;
mod layer_adapter;
mod mixture;
pub mod names;
mod packed;
mod parameters;
mod pass;
mod peft;
mod per_layer;
pub mod processor;
pub mod random;
mod recurrent;
mod rope;
pub mod text;
mod text_encoder;
mod unread;
pub mod vision;
mod vision_tower;
mod weights;

pub use audio::AudioTower;
pub use block::{Attention, Biases, BlockSpec, Context, Mlp, Norm, NormKind, Norms, QkNorm, Stack};
pub use cache::{Cache, CacheShape, PAGE};
pub use causal::{CausalModel, EncoderRun, Layout, input_ids};
pub use config::Config;
pub use contrastive::{Contrastive, ImagePreparation, TextPool, TextTower, VisionPool};
pub use decoder::{Decoder, Features};
pub use error::{Error, Result};
pub use family::{Model, family_names, open, open_weights};
pub use frames::{FrameHead, FrameModel, Transducer};
pub use image_encoder::ImageEncoder;
pub use latent::Latent;
pub use layer_adapter::{AdapterLayers, LayerAdapter, OpenedAdapter};
pub use mixture::{
    EXPERT_STACKS, Groups, MIXTURE, Mixture, MixtureNames, Router, Routing, Scores, Shared, is_buffer,
    is_experts,
};
pub use packed::Packed;
pub use parameters::{
    Adapter, AllF32, DROPOUT_KEY, DROPOUT_SHARE, Extras, ParameterSpecs, Parameters, parse_slot_parameter,
    product, slot_parameter,
};
pub use pass::{Group, Input, MediaShape, PassInputs, PassRows, PassShape, SequenceRows};
pub use peft::{
    AdapterFacts, Located, PeftNames, adapter_tensors, in_peft_form, locate, locate_adapter, tied_table,
};
pub use per_layer::PerLayer;
pub use rope::Rope;
pub use text_encoder::{Pooling, TextEncoder};
pub use unread::unread;
pub use vision_tower::VisionTower;
pub use weights::{TrainedParameters, Weights};
