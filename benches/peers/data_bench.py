"""The steps of data/examples/scale.rs in Python: webdataset, PIL, imagehash and datasketch, on two processes.

    python data_bench.py DIR OUT [PROCESSES]

Decoding, hashing and MinHash run in worker processes; the indexes and the writer in the main one.
"""

import glob
import io
import multiprocessing
import os
import resource
import sys
import time

import imagehash
import webdataset
from datasketch import MinHash, MinHashLSH
from PIL import Image

DISTANCE = 8
THRESHOLD = 0.6


def samples(shards):
    """Raw samples of tars, by webdataset."""
    urls = [f"file:{shard}" for shard in shards]
    return iter(webdataset.WebDataset(urls, shardshuffle=False))


def look(sample):
    """Validate a picture, and hash it and its caption."""
    try:
        picture = Image.open(io.BytesIO(sample["jpg"]))
        picture.load()
        text = sample["txt"].decode("utf-8")
    except Exception as error:
        return sample, str(error), None, None
    bits = int(str(imagehash.phash(picture)), 16)
    minhash = MinHash(num_perm=120)
    text = text.lower()
    minhash.update_batch([text[i : i + 3].encode() for i in range(max(1, len(text) - 2))])
    return sample, None, bits, minhash


class Near:
    """Hashes within a distance d: cut into d + 1 parts, of which one is the same."""

    def __init__(self):
        self.parts = [{} for _ in range(DISTANCE + 1)]

    def keys(self, bits):
        width = 64 // (DISTANCE + 1) + 1
        return [(bits >> (width * part)) & ((1 << width) - 1) for part in range(DISTANCE + 1)]

    def seen(self, bits):
        keys = self.keys(bits)
        for table, key in zip(self.parts, keys):
            for other in table.get(key, ()):
                if (other ^ bits).bit_count() <= DISTANCE:
                    return True
        for table, key in zip(self.parts, keys):
            table.setdefault(key, []).append(bits)
        return False


def main():
    folder, out = sys.argv[1:3]
    processes = int(sys.argv[3]) if len(sys.argv) > 3 else 2
    os.makedirs(out, exist_ok=True)
    started = time.time()
    near, lsh = Near(), MinHashLSH(threshold=THRESHOLD, num_perm=120)
    counts = {"read": 0, "damaged": 0, "picture": 0, "caption": 0}
    with multiprocessing.Pool(processes) as pool:
        writer = webdataset.ShardWriter(f"{out}/train-%05d.tar", maxcount=10_000, maxsize=256 << 20, verbose=0)
        read = samples(sorted(glob.glob(f"{folder}/*.tar")))
        for sample, fault, bits, minhash in pool.imap(look, read, chunksize=64):
            counts["read"] += 1
            if fault:
                counts["damaged"] += 1
            elif near.seen(bits):
                counts["picture"] += 1
            else:
                if lsh.query(minhash):
                    counts["caption"] += 1
                else:
                    lsh.insert(sample["__key__"], minhash)
                    writer.write({"__key__": sample["__key__"], "jpg": sample["jpg"], "txt": sample["txt"]})
        writer.close()
    seconds = time.time() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(counts, f"{seconds:.2f} s, {counts['read'] / seconds:.0f} samples/s, main process {peak / 1024:.0f} MB")


if __name__ == "__main__":
    main()
