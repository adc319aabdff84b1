"""Open adapters of the tests with PEFT, and compare what it computes with what the merged model does.

    PERCEPT_KEEP_ADAPTERS=/tmp/adapters cargo test --test training lies_as_peft
    python tests/training/open_with_peft.py /tmp/adapters

Needs torch, transformers and peft.
"""
import json
import pathlib
import sys
import warnings

import torch
import transformers
from peft import PeftModel, get_peft_model_state_dict
from safetensors.torch import load_file

PARITY = pathlib.Path(__file__).parent.parent / "parity"


def check(folder, base):
    kind = transformers.AutoConfig.from_pretrained(base).architectures[0]
    make = lambda: getattr(transformers, kind).from_pretrained(base, dtype=torch.float32, attn_implementation="eager")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        model = PeftModel.from_pretrained(make(), folder).eval()
    for word in ("missing", "unexpected", "inconsistency"):
        assert not any(word in str(w.message).lower() for w in said), [str(w.message) for w in said]
    file = load_file(folder / "adapter_model.safetensors")
    state = get_peft_model_state_dict(model)
    assert state.keys() == file.keys(), state.keys() ^ file.keys()
    assert all(torch.equal(state[n], t) for n, t in file.items())
    inputs = load_file(PARITY / base.parent.name / "inputs.safetensors")
    inputs = {k: v.long() if not v.is_floating_point() else v for k, v in inputs.items()}
    with torch.no_grad():
        before, found = make()(**inputs).logits, model(**inputs).logits
        merged = model.merge_and_unload()
        error = (merged(**inputs).logits - found).abs().max().item()
    assert (found - before).abs().max() > 1e-3 and error < 1e-4, error
    if json.loads((folder / "adapter_config.json").read_text()).get("ensure_weight_tying"):
        tables = [merged.get_input_embeddings().weight, merged.get_output_embeddings().weight]
        assert torch.equal(*tables) and torch.equal(tables[0], file["base_model.model.lm_head.weight"])
    print(f"{folder.name}: {len(file)} tensors as in the file, merged within {error:.1e}")


if __name__ == "__main__":
    golden = json.loads((pathlib.Path(__file__).parent / "golden.json").read_text())["whole"]
    for name, case in golden.items():
        check(pathlib.Path(sys.argv[1]) / name, PARITY / case["base"] / "model")
