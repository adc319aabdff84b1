// The microphone, as a WAV file of 16-bit PCM that every server reads.

/** Longest recording, in seconds; it is attached then. */
export const LONGEST = 600;

export class Recorder {
  #context;
  #stream;
  #chunks = [];
  #samples = 0;

  /** Ask for the microphone and begin. `onLevel` gets the loudness from 0 to 1 and the seconds so far. */
  static async begin(onLevel) {
    if (!navigator.mediaDevices?.getUserMedia) {
      throw new Error("Browsers give the microphone only to pages over https or from localhost; open this page so, or attach a file.");
    }
    const recorder = new Recorder();
    try {
      recorder.#stream = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1 } });
      recorder.#context = new AudioContext();
      await recorder.#context.audioWorklet.addModule(new URL("recorder-worklet.js", import.meta.url));
      const source = recorder.#context.createMediaStreamSource(recorder.#stream);
      const tap = new AudioWorkletNode(recorder.#context, "tap", { numberOfOutputs: 0, channelCount: 1, channelCountMode: "explicit" });
      tap.port.onmessage = ({ data }) => {
        recorder.#chunks.push(data);
        recorder.#samples += data.length;
        const peak = data.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
        onLevel(Math.min(1, peak), recorder.#samples / recorder.#context.sampleRate);
      };
      source.connect(tap);
      return recorder;
    } catch (error) {
      await recorder.end();
      if (error?.name === "NotAllowedError") {
        throw new Error("The browser was not allowed to use the microphone; allow it in the settings of this site.");
      }
      if (error?.name === "NotFoundError") throw new Error("No microphone was found; plug one in, or attach a file.");
      throw error;
    }
  }

  /** Let the microphone go: what was recorded, as a file, or undefined when it is nothing. */
  async end() {
    this.#stream?.getTracks().forEach((track) => track.stop());
    const rate = this.#context?.sampleRate;
    await this.#context?.close();
    if (!this.#samples) return undefined;
    const name = `recording ${new Date().toTimeString().slice(0, 8).replaceAll(":", ".")}.wav`;
    return new File([wav(this.#chunks, this.#samples, rate)], name, { type: "audio/wav" });
  }
}

/** A WAV file of one channel. Samples from -1 to 1 become 16-bit integers, and what is beyond is cut off. */
export function wav(chunks, samples, rate) {
  const view = new DataView(new ArrayBuffer(44 + 2 * samples));
  const ascii = (at, text) => [...text].forEach((c, i) => view.setUint8(at + i, c.charCodeAt(0)));
  ascii(0, "RIFF");
  view.setUint32(4, 36 + 2 * samples, true);
  ascii(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true); // PCM
  view.setUint16(22, 1, true); // channels
  view.setUint32(24, rate, true);
  view.setUint32(28, 2 * rate, true); // bytes a second
  view.setUint16(32, 2, true); // bytes of a frame
  view.setUint16(34, 16, true); // bits of a sample
  ascii(36, "data");
  view.setUint32(40, 2 * samples, true);
  let at = 44;
  for (const chunk of chunks) {
    for (const value of chunk) {
      view.setInt16(at, Math.round(32767 * Math.max(-1, Math.min(1, value))), true);
      at += 2;
    }
  }
  return view.buffer;
}
