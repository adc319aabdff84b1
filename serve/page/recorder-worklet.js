// Hands what the microphone hears to the page, a twentieth of a second at a time.

class Tap extends AudioWorkletProcessor {
  #block = new Float32Array(Math.round(sampleRate / 20));
  #filled = 0;

  process([[channel]]) {
    for (const value of channel ?? []) {
      this.#block[this.#filled] = value;
      this.#filled += 1;
      if (this.#filled === this.#block.length) {
        this.port.postMessage(this.#block);
        this.#block = new Float32Array(this.#block.length);
        this.#filled = 0;
      }
    }
    return true;
  }
}

registerProcessor("tap", Tap);
