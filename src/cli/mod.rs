//! Commands, one file each, in folders by what they are about.

// First, because its macros stand in place of the standard ones in all others.
#[macro_use]
pub mod output;

mod bench;
mod completions;
mod data;
mod demo;
mod device;
#[cfg(test)]
mod documented;
mod failure;
mod kernel;
mod model;
mod plugin;
mod serve;
mod table;

use clap::{Parser, Subcommand};

pub use failure::Failure;

/// Train, fine-tune, evaluate and run multimodal models on any accelerator.
#[derive(Parser)]
#[command(name = "percept", version, arg_required_else_help = true)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List the devices of this machine
    #[command(after_help = "Examples:\n  percept devices\n  percept devices --json")]
    Devices(device::Devices),
    /// Check a device: its operations, and whole graphs against the cpu
    #[command(subcommand)]
    Device(device::DeviceCommand),
    /// List, test, time and export WGSL kernels
    #[command(subcommand)]
    Kernel(kernel::KernelCommand),
    /// Write plug-ins that bring a device
    #[command(subcommand)]
    Plugin(plugin::PluginCommand),
    /// Generate text from a prompt or a conversation, with images, video and audio
    #[command(
        after_help = "Examples:\n  percept generate --model SmolLM2.gguf --temperature 0 \"What is the capital of France?\"\n  \
        percept generate --model Qwen2-VL-2B-Instruct --image photo.jpg \"What is this?\" --json\n  \
        percept generate --model runs/flags/model \"Which flag is this?\"\n  \
        percept generate --model base --adapter runs/flags/model --adapter style=0.5 \"Which flag is this?\"\n  \
        percept generate --model Qwen3-0.6B --messages talk.json --tools tools.json --template-var enable_thinking=false"
    )]
    Generate(Box<model::generate::Generate>),
    /// Talk with a model in the terminal: many turns, with images, video and audio
    #[command(after_help = "Examples:\n  percept chat --model SmolLM2.gguf\n  \
        percept chat --model Qwen2-VL-2B-Instruct --system \"Be brief.\"\n  \
        percept chat --model Qwen3-0.6B --messages talk.json --temperature 0 --json\n\n\
        A line is a message; /help lists the commands, such as /image FILE. Ctrl-C stops an answer, Ctrl-D ends.")]
    Chat(Box<model::chat::Chat>),
    /// Transcribe speech in audio files
    #[command(after_help = "Examples:\n  percept transcribe --model whisper-tiny.en talk.mp3\n  \
        percept transcribe --model whisper-small --format srt --out captions *.m4a")]
    Transcribe(model::transcribe::Transcribe),
    /// Embed images and texts as vectors, and compare them
    #[command(after_help = "Examples:\n  percept embed --model siglip --image cat.jpg --text 'a cat' --json")]
    Embed(model::embed::Embed),
    /// Pull, prepare and inspect data
    #[command(subcommand)]
    Data(data::Data),
    /// Train or fine-tune a model from a TOML file
    #[command(
        after_help = "Examples:\n  percept train flags.toml\n  percept train flags.toml --resume --device cpu\n  \
        percept train flags.toml --set optimizer.rate=3e-4 --set steps=100\n  \
        percept train flags.toml --set epochs=3 --json\n\n\
        Ctrl-C and SIGTERM save a checkpoint and end the run with exit code 130 or 143; --resume goes on from it."
    )]
    Train(model::train::Train),
    /// Evaluate a model on benchmarks and on corpora of questions
    #[command(
        after_help = "Examples:\n  percept eval --model Qwen2-VL-2B-Instruct --tasks textvqa_val,pope --data benchmarks --out scores\n  \
        percept eval --model runs/a/model --tasks world/category/held-out,world/sound/held-out\n  \
        percept eval --model base --adapter runs/flags/model --tasks world/flags/held-out --limit 100 --json"
    )]
    Eval(Box<model::eval::Eval>),
    /// Serve models over HTTP, to clients of OpenAI's API
    #[command(after_help = "Examples:\n  percept serve --model SmolLM2-135M-Instruct\n  \
        percept serve --model chat=SmolLM2.gguf --model whisper-tiny.en --host 0.0.0.0 --port 8080 --api-keys keys.txt\n  \
        percept serve --model base=SmolLM2-135M-Instruct --adapter flags=runs/flags/model --running 32\n\n\
        Ctrl-C and SIGTERM let what runs end within --grace, and end the server with exit code 0.")]
    Serve(Box<serve::Serve>),
    /// Run the whole life of a small model in minutes: data, training, fine-tuning, evaluation and a report
    #[command(
        after_help = "Examples:\n  percept demo\n  percept demo --device wgpu:0 --scale tiny --out demo-gpu --seed 1"
    )]
    Demo(demo::Demo),
    /// Measure the speed of operations, models and preprocessing
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Show what a checkpoint holds, or what a model is given for a prompt and its media
    #[command(
        after_help = "Examples:\n  percept inspect SmolLM2-135M-Instruct\n  percept inspect model.gguf --json\n  \
        percept inspect runs/flags/model\n  \
        percept inspect --model Qwen2-VL-2B-Instruct --image photo.jpg \"What is this?\"\n  \
        percept inspect --model SmolVLM2-500M --video clip.mp4 --previews seen --json \"What happens?\""
    )]
    Inspect(model::inspect::Inspect),
    /// Cast, quantize, and change the format of a checkpoint
    #[command(
        after_help = "Examples:\n  percept convert SmolLM2-135M-Instruct smollm2.gguf --dtype q4_1\n  \
        percept convert model.gguf folder --dtype bf16\n  \
        percept convert SmolLM2-135M-Instruct merged --adapter runs/flags/model\n  percept convert runs/flags/model merged.gguf"
    )]
    Convert(model::convert::Convert),
    /// Write the graph of a model, with its weights, for other runtimes and compilers
    #[command(
        after_help = "Examples:\n  percept export SmolLM2-135M-Instruct --to onnx --out step.onnx --capacity 1024\n  \
        percept export SmolLM2.gguf --to onnx --style microsoft --out step.onnx\n  \
        percept export clip-vit-base-patch32 --to onnx --part image --out tower.onnx\n  \
        percept export whisper-tiny.en --to onnx --style fused --opset 24 --out encoder.onnx\n  \
        percept export SmolLM2-135M-Instruct --to stablehlo --out step.mlir\n  \
        percept export clip-vit-base-patch32 --to rknn --target RK3588 --out tower.rknn --python rknn/bin/python"
    )]
    Export(model::export::Export),
    /// Print a shell's completion script
    #[command(
        after_help = "Examples:\n  percept completions bash > ~/.local/share/bash-completion/completions/percept\n  \
        percept completions zsh > ~/.zfunc/_percept\n  percept completions fish > ~/.config/fish/completions/percept.fish"
    )]
    Completions(completions::Completions),
    /// Write the manual pages
    #[command(after_help = "Example:\n  percept man ~/.local/share/man/man1")]
    Man(completions::Man),
}

/// Run a command.
pub fn run(arguments: Arguments) -> Result<(), Failure> {
    match arguments.command {
        Command::Devices(c) => c.run(),
        Command::Device(c) => c.run(),
        Command::Kernel(c) => c.run(),
        Command::Plugin(c) => c.run(),
        Command::Generate(c) => c.run(),
        Command::Chat(c) => c.run(),
        Command::Bench(c) => c.run(),
        Command::Data(c) => c.run(),
        Command::Demo(c) => c.run(),
        Command::Embed(c) => c.run(),
        Command::Eval(c) => c.run(),
        Command::Serve(c) => c.run(),
        Command::Train(c) => c.run(),
        Command::Transcribe(c) => c.run(),
        Command::Inspect(c) => c.run(),
        Command::Convert(c) => c.run(),
        Command::Export(c) => c.run(),
        Command::Completions(c) => c.run(),
        Command::Man(c) => c.run(),
    }
}
