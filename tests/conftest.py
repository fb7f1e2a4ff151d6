"""What several tests share: models, a simulated device, settings. Packages of the project are imported where they are
used: the environment comes first.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest
from tokenizers import AddedToken, decoders, models, pre_tokenizers
from tokenizers import Tokenizer as Pipeline

if TYPE_CHECKING:
    from simulated import SimulatedBackend

    from perfxlm import LLM

# Before the first import of NumPy: its BLAS has threads that spin beside those of the native pool, and where
# processors are shared both wait for each other.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# What is chosen by measuring depends on the machine's load; tests of tuning turn it on.
os.environ.setdefault("PERFXAPI_TUNE", "0")

# Other processes share the machine: how long an example took says nothing about it.
hypothesis.settings.register_profile("shared", deadline=None)
hypothesis.settings.load_profile("shared")

DATA = Path(__file__).parent / "data"
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}[{{ message['role'] }}] {{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    """Every test starts with an empty ledger, unread settings, no warning given yet, and leaves no device lost."""
    from perfxapi import policy
    from perfxapi.backend import REGISTRY
    from perfxapi.ledger import LEDGER
    from perfxapi.settings import settings

    LEDGER.clear()
    policy._warned.clear()
    settings.cache_clear()
    yield
    settings.cache_clear()
    for device in [device for entry in REGISTRY.entries() for device in entry.device_list]:
        REGISTRY.restore(device)


@pytest.fixture
def absent(monkeypatch: pytest.MonkeyPatch) -> str:
    """A kind of device that is known and whose backend is not installed."""
    from perfxapi import policy

    monkeypatch.setitem(policy.KNOWN_KINDS, "absent", "perfxapi-backend-absent")
    return "absent"


@pytest.fixture
def set_setting(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Sets an environment variable of ours and has the settings read again."""
    from perfxapi.settings import settings

    def set_(name: str, value: str) -> None:
        monkeypatch.setenv(f"PERFXAPI_{name}", value)
        settings.cache_clear()

    return set_


@pytest.fixture
def sim() -> Iterator[SimulatedBackend]:
    """A simulated device with a memory of its own, `sim:0`, with a kernel for every op."""
    from simulated import registered

    with registered(1) as backend:
        yield backend


@pytest.fixture
def sims() -> Iterator[SimulatedBackend]:
    """Two simulated devices, `sim:0` and `sim:1`, each with a memory of its own; plans run on them in segments."""
    from simulated import registered

    with registered(2) as backend:
        backend.compiles = True
        yield backend


@pytest.fixture(scope="session")
def gemma_path() -> Path:
    """The real Gemma 3 270M, as a GGUF file. Without its package, tests fail: `-m "not model"` leaves them out."""
    from perfxlm.errors import UnknownModelError
    from perfxlm.model_packages import find_model

    try:
        return find_model("gemma3-270m")
    except UnknownModelError as error:
        pytest.fail(f"{error}; or leave these tests out with -m 'not model'", pytrace=False)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Gemma 3 with a tokenizer of 128 tokens: <pad>, <bos>, <eos>, <end>, then one for each of some bytes."""
    folder = tmp_path_factory.mktemp("tiny") / "gemma3"
    shutil.copytree(DATA / "tiny" / "gemma3", folder)
    special = ["<pad>", "<bos>", "<eos>", "<end>"]
    letters = _byte_letters()
    chosen = [*range(32, 127), 10, *"é中".encode()]
    chosen += [byte for byte in range(128, 256) if byte not in chosen][: 128 - len(special) - len(chosen)]
    vocabulary = {token: index for index, token in enumerate([*special, *(letters[byte] for byte in chosen)])}
    pipeline = Pipeline(models.BPE(vocab=vocabulary, merges=[]))
    pipeline.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    pipeline.decoder = decoders.ByteLevel()
    pipeline.add_special_tokens([AddedToken(token, special=True) for token in special])
    pipeline.save(str(folder / "tokenizer.json"))
    config = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "chat_template": CHAT_TEMPLATE}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="module", params=["cpu", "numpy"])
def device(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def llm(device: str, tiny_model: Path) -> LLM:
    from perfxlm import LLM

    return LLM(tiny_model, device=device, max_model_len=128)


@pytest.fixture(scope="module")
def cpu_llm(tiny_model: Path) -> LLM:
    from perfxlm import LLM

    return LLM(tiny_model, device="cpu", max_model_len=128)


def _byte_letters() -> dict[int, str]:
    """The letter that stands for each byte in byte-level vocabularies (Radford et al. 2019)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = {byte: chr(byte) for byte in printable}
    others = [byte for byte in range(256) if byte not in letters]
    return {**letters, **{byte: chr(256 + index) for index, byte in enumerate(others)}}


@pytest.fixture(scope="module")
def kernel_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the tests of one file keep the kernels that they compile."""
    return tmp_path_factory.mktemp("kernels")


@pytest.fixture
def own_kernel_folder(kernel_folder: Path, set_setting: Callable[[str, str], None]) -> None:
    """Kernels are compiled into that folder."""
    set_setting("KERNEL_FOLDER", str(kernel_folder))
