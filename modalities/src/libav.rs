//! FFmpeg's demuxers and decoders, for video and for the audio that symphonia does not read.

use std::io::{Cursor, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Once};

use ffmpeg_next::codec::threading;
use ffmpeg_next::format::context::{Input, StreamIo};
use ffmpeg_next::util::error::{EAGAIN, EINVAL, register_all};
use ffmpeg_next::{Dictionary, Error as Fault, Packet, codec, ffi, format, frame, log, media};

use crate::error::{Error, Result};
use crate::image::png;

/// Containers that hold frames themselves. Play lists and the like, which name other files, are left out.
const CONTAINERS: &str = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,gif,apng,mpegts,mpeg,mpegvideo,h264,hevc,av1,obu,ivf,\
                          m4v,mjpeg,flv,asf,ogg,rm,dv,mxf,nut,yuv4mpegpipe,wav,w64,aiff,caf,au,aac,ac3,eac3,amr,mp3,flac,ape,\
                          dts,tta,voc,wv";

/// Faults in a row after which a decoder that is being emptied is given up.
const PATIENCE: usize = 64;

/// A file on disk or in memory, and its name in errors. It may be opened more than once.
#[derive(Clone)]
pub(crate) struct Source {
    what: String,
    data: SourceData,
}

#[derive(Clone)]
enum SourceData {
    File(PathBuf),
    Memory(Arc<[u8]>),
}

pub(crate) trait Stream: Read + Seek + Send {}
impl<T: Read + Seek + Send> Stream for T {}

impl Source {
    pub(crate) fn file(path: &Path) -> Self {
        Self { what: path.display().to_string(), data: SourceData::File(path.to_owned()) }
    }

    pub(crate) fn memory(what: &str, bytes: Arc<[u8]>) -> Self {
        Self { what: what.to_owned(), data: SourceData::Memory(bytes) }
    }

    pub(crate) fn open(&self) -> Result<Box<dyn Stream>> {
        match &self.data {
            SourceData::File(path) => Ok(Box::new(open_file(path)?)),
            SourceData::Memory(bytes) => Ok(Box::new(Cursor::new(bytes.clone()))),
        }
    }

    /// The same file, an animated PNG without its compressed notes, which FFmpeg would inflate to any size.
    pub(crate) fn without_notes(self) -> Result<Self> {
        let mut stream = self.open()?;
        let mut bytes = vec![0; 8];
        if stream.read_exact(&mut bytes).is_err() || !png::is_png(&bytes) {
            return Ok(self);
        }
        let fault = |error: std::io::Error| Error::Read { what: self.what.clone(), why: error.to_string() };
        stream.read_to_end(&mut bytes).map_err(fault)?;
        Ok(Self::memory(&self.what, png::animation(&bytes).into()))
    }

    pub(crate) fn damaged(&self, why: impl ToString) -> Error {
        Error::Decode { what: self.what.clone(), why: why.to_string() }
    }

    pub(crate) fn too_large(&self, why: String) -> Error {
        Error::TooLarge { what: self.what.clone(), why }
    }
}

/// Opens a file to be read. Folders open on some systems too, and fail later with less to say.
pub(crate) fn open_file(path: &Path) -> Result<std::fs::File> {
    let fault = |why: String| Error::Read { what: path.display().to_string(), why };
    let file = std::fs::File::open(path).map_err(|error| fault(error.to_string()))?;
    match file.metadata() {
        Ok(meta) if meta.is_dir() => Err(fault("it is a folder".into())),
        _ => Ok(file),
    }
}

/// The most pixels of a frame that one thread decodes sooner than several do.
const SMALL_FRAME: usize = 320 * 240;

/// Opens a container and finds its streams.
pub(crate) fn demux(source: &Source) -> Result<Input> {
    silence();
    let io = StreamIo::from_read_seek(source.open()?).map_err(|fault| source.damaged(fault))?;
    let options = Dictionary::from_iter([("format_whitelist", CONTAINERS), ("protocol_whitelist", "none")]);
    format::input_from_stream(io, None, Some(options)).map_err(|fault| match lacks_index(source) {
        true => source.damaged(
            "it has no index (`moov`), which says where its streams lie: the file is cut off or was never finished",
        ),
        // What it says of a container that is not on the list.
        false if fault == (Fault::Other { errno: EINVAL }) => {
            source.damaged("its container is none of those that are read")
        }
        false => source.damaged(format!("FFmpeg finds no stream in it: {fault}")),
    })
}

/// Whether a file is MPEG-4 without the box that describes its streams.
fn lacks_index(source: &Source) -> bool {
    let Ok(mut stream) = source.open() else { return false };
    let mut head = [0; 16];
    let mut first = true;
    // A file of more boxes than this is not looked through.
    for _ in 0..1 << 12 {
        let Ok(()) = stream.read_exact(&mut head[..8]) else { return !first };
        let [a, b, c, d, name @ ..] =
            [head[0], head[1], head[2], head[3], head[4], head[5], head[6], head[7]];
        match (first, &name) {
            (true, b"ftyp") => first = false,
            (true, _) | (false, b"moov") => return false,
            _ => {}
        }
        let skip = match u32::from_be_bytes([a, b, c, d]) {
            0 => return true,
            1 => match stream.read_exact(&mut head[8..]) {
                Ok(()) => i64::from_be_bytes(head[8..].try_into().unwrap_or_default()) - 16,
                Err(_) => return true,
            },
            size => i64::from(size) - 8,
        };
        if skip < 0 || stream.seek(SeekFrom::Current(skip)).is_err() {
            return true;
        }
    }
    false
}

/// One stream of a file being decoded. What goes wrong is noted, and decoding continues with what follows.
pub(crate) struct Decoding {
    pub(crate) input: Input,
    pub(crate) decoder: codec::decoder::Opened,
    /// Pixels in a row and rows of a video's frames, as the file states them.
    pub(crate) size: (usize, usize),
    stream: usize,
    packet: Packet,
    draining: bool,
    /// Faults in a row while the decoder is emptied.
    stuck: usize,
    faults: Faults,
}

/// What went wrong while a file was decoded.
#[derive(Debug, Clone, Default)]
pub(crate) struct Faults {
    pub(crate) count: usize,
    /// The first of them.
    pub(crate) first: Option<String>,
}

impl Faults {
    pub(crate) fn note(&mut self, fault: impl ToString) {
        self.count += 1;
        self.first.get_or_insert_with(|| fault.to_string());
    }
}

impl Decoding {
    /// Opens the best stream of a kind. Frames of more than `max_pixels` pixels are refused by the decoder
    /// before it makes room for them.
    pub(crate) fn open(source: &Source, kind: media::Type, max_pixels: usize) -> Result<Self> {
        let damaged = |fault: Fault| source.damaged(fault);
        let input = demux(source)?;
        let name = if kind == media::Type::Video { "video" } else { "audio" };
        let stream =
            input.streams().best(kind).ok_or_else(|| source.damaged(format!("it holds no {name}")))?;

        let parameters = stream.parameters();
        // SAFETY: the parameters are the stream's, which lives as long as `input`.
        let (width, height) = unsafe { ((*parameters.as_ptr()).width, (*parameters.as_ptr()).height) };
        let size = (width.max(0) as usize, height.max(0) as usize);
        if size.0 * size.1 > max_pixels {
            let why = format!("its frames are {width} x {height}; the limit is {max_pixels} pixels");
            return Err(source.too_large(why));
        }
        let mut context = codec::Context::from_parameters(parameters).map_err(damaged)?;
        // Each thread has a decoder of its own, which costs more than small frames do; 0 asks for a thread a core.
        let count = usize::from(size.0 * size.1 <= SMALL_FRAME);
        context.set_threading(threading::Config {
            kind: threading::Type::Frame,
            count,
            ..threading::Config::default()
        });
        let mut decoder = context.decoder();
        decoder.set_packet_time_base(stream.time_base());
        let id = decoder.id();
        let codec = codec::decoder::find(id).ok_or_else(|| {
            source.damaged(format!("its {name} is {}, which FFmpeg does not decode here", id.name()))
        })?;
        let pixels = max_pixels.min(i32::MAX as usize).to_string();
        let options = Dictionary::from_iter([("max_pixels", pixels.as_str())]);
        let decoder = decoder.open_as_with(codec, options).map_err(damaged)?;
        let stream = stream.index();
        Ok(Self {
            input,
            decoder,
            size,
            stream,
            packet: Packet::empty(),
            draining: false,
            stuck: 0,
            faults: Faults::default(),
        })
    }

    /// The stream being decoded.
    pub(crate) fn stream(&self) -> Option<format::stream::Stream<'_>> {
        self.input.stream(self.stream)
    }

    /// What went wrong so far.
    pub(crate) fn faults(&self) -> &Faults {
        &self.faults
    }

    /// How many seconds the file says that the stream has. What FFmpeg estimates from the size of the file is
    /// no such statement, and a container of several streams speaks of its longest.
    pub(crate) fn declared(&self) -> Option<f64> {
        let stream = self.stream()?;
        let said = stream.metadata().get("DURATION").and_then(clock_time);
        // SAFETY: the context is live, and the field is a plain number.
        let estimate = unsafe { (*self.input.as_ptr()).duration_estimation_method };
        let from_stream = estimate == ffi::AVDurationEstimationMethod::AVFMT_DURATION_FROM_STREAM;
        // Matroska counts from zero, whenever its first packet is shown.
        let before = match stream.start_time() {
            start if start > 0 && self.input.format().name().starts_with("matroska") => {
                start as f64 * f64::from(stream.time_base())
            }
            _ => 0.0,
        };
        let seconds = match (said, stream.duration()) {
            (Some(seconds), _) => seconds - before,
            (None, ticks) if ticks > 0 && from_stream => ticks as f64 * f64::from(stream.time_base()),
            (None, _) if from_stream && self.input.nb_streams() == 1 => {
                self.input.duration() as f64 / f64::from(ffi::AV_TIME_BASE) - before
            }
            _ => return None,
        };
        Some(seconds).filter(|seconds| seconds.is_finite() && *seconds > 0.0)
    }

    /// The presentation time and the duration in ticks of every packet that will be shown, without decoding
    /// them. Nothing can be decoded afterwards.
    pub(crate) fn scan(&mut self) -> Vec<(Option<i64>, i64)> {
        let mut packets = Vec::new();
        while self.read().is_ok() {
            // Edit lists may ask for frames to be decoded and not shown. ffmpeg-next has no name for the
            // flag.
            let shown = self.packet.flags().bits() & ffi::AV_PKT_FLAG_DISCARD == 0;
            if self.packet.stream() == self.stream && shown {
                packets.push((self.packet.pts(), self.packet.duration()));
            }
        }
        packets
    }

    /// Decodes the next frame in the order of presentation; false at the end.
    pub(crate) fn next(&mut self, frame: &mut frame::Frame) -> bool {
        loop {
            match self.decoder.receive_frame(frame) {
                Ok(()) => {
                    self.stuck = 0;
                    return true;
                }
                Err(Fault::Other { errno: EAGAIN }) => {}
                Err(Fault::Eof) => return false,
                Err(fault) => self.faults.note(fault),
            }
            if !self.draining {
                self.feed();
            } else if self.stuck > PATIENCE {
                return false;
            } else {
                self.stuck += 1;
            }
        }
    }

    /// Reads the next packet of any stream. The one before is let go of first: FFmpeg writes over it, and its bytes would
    /// never be freed.
    fn read(&mut self) -> std::result::Result<(), Fault> {
        self.packet = Packet::empty();
        self.packet.read(&mut self.input)
    }

    /// Gives the decoder one packet of the stream, or tells it that there are no more.
    fn feed(&mut self) {
        loop {
            match self.read() {
                Ok(()) if self.packet.stream() != self.stream => {}
                Ok(()) => {
                    if self.packet.is_corrupt() {
                        self.faults.note("the file ends in the middle of a packet");
                    }
                    if let Err(fault) = self.decoder.send_packet(&self.packet) {
                        self.faults.note(fault);
                    }
                    return;
                }
                Err(fault) => {
                    if fault != Fault::Eof {
                        self.faults.note(fault);
                    }
                    self.draining = true;
                    if let Err(fault) = self.decoder.send_eof() {
                        self.faults.note(fault);
                    }
                    return;
                }
            }
        }
    }
}

/// Seconds of a time written as hours, minutes and seconds: `00:00:20.033000000`.
fn clock_time(text: &str) -> Option<f64> {
    text.split(':').try_fold(0.0, |sum, part| Some(60.0 * sum + part.trim().parse::<f64>().ok()?))
}

/// Errors come back as values, so FFmpeg's log stays silent; and no file may make it take a gibibyte at once.
pub(crate) fn silence() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_level(log::Level::Quiet);
        // Without this the library's own errors have no words.
        register_all();
        // SAFETY: it stores a number that libavutil reads at each allocation; any value is allowed.
        unsafe { ffi::av_max_alloc(1 << 30) };
    });
}
