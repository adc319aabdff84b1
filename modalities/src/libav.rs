//! FFmpeg's demuxers and decoders, for video and for the sound that symphonia does not read.

use std::io::{Cursor, Read, Seek};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Once};

use ffmpeg_next::codec::threading;
use ffmpeg_next::format::context::{Input, StreamIo};
use ffmpeg_next::util::error::EAGAIN;
use ffmpeg_next::{Dictionary, Error as Fault, Packet, codec, ffi, format, frame, log, media};

use crate::error::{Error, Result};

/// Containers that hold frames themselves. Play lists and the like, which name other files, are left out.
const CONTAINERS: &str = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,gif,apng,mpegts,mpeg,mpegvideo,h264,hevc,av1,obu,ivf,\
                          m4v,mjpeg,flv,asf,ogg,rm,dv,mxf,nut,yuv4mpegpipe,wav,w64,aiff,caf,au,aac,ac3,eac3,amr,mp3,flac,ape";

/// Faults in a row after which a decoder that is being emptied is given up.
const PATIENCE: usize = 64;

/// A file on disk or in memory, and its name in errors. It may be opened more than once.
#[derive(Clone)]
pub(crate) struct Source {
    what: String,
    place: Place,
}

#[derive(Clone)]
enum Place {
    File(PathBuf),
    Memory(Arc<[u8]>),
}

pub(crate) trait Stream: Read + Seek + Send {}
impl<T: Read + Seek + Send> Stream for T {}

impl Source {
    pub(crate) fn file(path: &Path) -> Self {
        Self { what: path.display().to_string(), place: Place::File(path.to_owned()) }
    }

    pub(crate) fn memory(what: &str, bytes: Arc<[u8]>) -> Self {
        Self { what: what.to_owned(), place: Place::Memory(bytes) }
    }

    pub(crate) fn open(&self) -> Result<Box<dyn Stream>> {
        match &self.place {
            Place::File(path) => Ok(Box::new(open_file(path)?)),
            Place::Memory(bytes) => Ok(Box::new(Cursor::new(bytes.clone()))),
        }
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

/// One stream of a file being decoded. What goes wrong is noted, and decoding goes on with what follows.
pub(crate) struct Decoding {
    pub(crate) input: Input,
    pub(crate) decoder: codec::decoder::Opened,
    /// Pixels in a row and rows of a video's frames, as the file states them.
    pub(crate) size: (usize, usize),
    stream: usize,
    packet: Packet,
    draining: bool,
    faults: usize,
    fault: Option<Fault>,
}

impl Decoding {
    /// Opens the best stream of a kind. Frames of more than `max_pixels` pixels are refused by the decoder before it
    /// makes room for them.
    pub(crate) fn open(source: &Source, kind: media::Type, max_pixels: usize) -> Result<Self> {
        silence();
        let damaged = |fault: Fault| source.damaged(fault);
        let io = StreamIo::from_read_seek(source.open()?).map_err(damaged)?;
        let options =
            Dictionary::from_iter([("format_whitelist", CONTAINERS), ("protocol_whitelist", "none")]);
        let input = format::input_from_stream(io, None, Some(options)).map_err(damaged)?;
        let name = if kind == media::Type::Video { "video" } else { "sound" };
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
        context.set_threading(threading::Config {
            kind: threading::Type::Frame,
            count: 0,
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
            faults: 0,
            fault: None,
        })
    }

    /// The stream being decoded.
    pub(crate) fn stream(&self) -> Option<format::stream::Stream<'_>> {
        self.input.stream(self.stream)
    }

    /// What went wrong first, if anything did.
    pub(crate) fn fault(&self) -> Option<Fault> {
        self.fault
    }

    /// Counts the packets that will be shown, without decoding them. Nothing can be decoded afterwards.
    pub(crate) fn count_packets(&mut self) -> usize {
        let mut count = 0;
        while self.packet.read(&mut self.input).is_ok() {
            // Edit lists may ask for frames to be decoded and not shown. ffmpeg-next has no name for the flag.
            let shown = self.packet.flags().bits() & ffi::AV_PKT_FLAG_DISCARD == 0;
            count += usize::from(self.packet.stream() == self.stream && shown);
        }
        count
    }

    /// Decodes the next frame in the order of presentation; false at the end.
    pub(crate) fn next(&mut self, frame: &mut frame::Frame) -> bool {
        loop {
            match self.decoder.receive_frame(frame) {
                Ok(()) => {
                    self.faults = 0;
                    return true;
                }
                Err(Fault::Other { errno: EAGAIN }) => {}
                Err(Fault::Eof) => return false,
                Err(fault) => self.note(fault),
            }
            if !self.draining {
                self.feed();
            } else if self.faults > PATIENCE {
                return false;
            } else {
                self.faults += 1;
            }
        }
    }

    /// Gives the decoder one packet of the stream, or tells it that there are no more.
    fn feed(&mut self) {
        loop {
            match self.packet.read(&mut self.input) {
                Ok(()) if self.packet.stream() != self.stream => {}
                Ok(()) => {
                    if let Err(fault) = self.decoder.send_packet(&self.packet) {
                        self.note(fault);
                    }
                    return;
                }
                Err(fault) => {
                    if fault != Fault::Eof {
                        self.note(fault);
                    }
                    self.draining = true;
                    if let Err(fault) = self.decoder.send_eof() {
                        self.note(fault);
                    }
                    return;
                }
            }
        }
    }

    fn note(&mut self, fault: Fault) {
        self.fault.get_or_insert(fault);
    }
}

/// Errors come back as values, so FFmpeg's log stays silent; and no file may make it take a gibibyte at once.
fn silence() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_level(log::Level::Quiet);
        // SAFETY: it stores a number that libavutil reads at each allocation; any value is allowed.
        unsafe { ffi::av_max_alloc(1 << 30) };
    });
}
