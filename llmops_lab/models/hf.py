"""Local transformers: ``hf:PATH[+ADAPTER]``, a folder or a downloaded hub id, with an optional PEFT adapter; batched."""

from __future__ import annotations

import contextlib
import importlib.util
import logging as stdlog
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from llmops_lab.errors import BadInput, MissingExtra, ProviderFault
from llmops_lab.models._batch import IN_FLIGHT, Batcher, Draft, Job, chat_of, digest_of
from llmops_lab.models._prices import price_of
from llmops_lab.models._provider import Price
from llmops_lab.records import Reply, Request
from llmops_lab.settings import Settings

_READ = {".safetensors", ".json", ".jinja", ".model", ".txt"}  # what decides the text that a folder's model writes
_EMBEDDED = Path(__file__).parent / "_tiny"  # its weights, in torch: adapters are trained on these
_loading = threading.Lock()
_ADAPTERS = 8
"""So many adapters stay loaded beside one base."""
_SMALL = 20_000_000  # parameters; below this a second thread waits longer than it computes


def connect(target: str, *, settings: Settings) -> Hf:
    """A model in a folder (as ``save_pretrained`` writes it) or in the local hub cache (``ORG/NAME`` or ``ORG/NAME@REVISION``).

    Nothing is downloaded and nothing loaded here. Raises MissingExtra without transformers, torch or (with an adapter) peft,
    and BadInput for a folder that is missing or holds no safetensors: weights in pickle files are not loaded, nor is code
    from a model's folder run.
    """
    place = _place(target)
    for package in ("transformers", "torch", *(("peft",) if place.adapter else ())):
        if importlib.util.find_spec(package) is None:
            raise MissingExtra(package, "hf")
    return Hf(target, place, price_of(f"hf:{target}", settings))


@dataclass(frozen=True)
class Place:
    """Where a model and its adapter lie on this machine."""

    folder: Path
    adapter: Path | None = None


class Hf:
    """Provider of one local model: bfloat16 on a GPU when torch sees one, float32 on the CPU.

    Greedy text in a batch equals that of one request alone up to rounding (in float32, a tie in the sixth digit); on a GPU
    in bfloat16 near ties are commoner. A model below 20 M parameters runs on one thread of the CPU, a larger one on as many
    as torch was given (OMP_NUM_THREADS); torch's setting for the other threads of the process is left alone.
    """

    local = True
    in_flight = IN_FLIGHT

    def __init__(self, target: str, place: Place, price: Price | None) -> None:
        self.pool = f"hf:{target}"
        # What an hour of the machine costs only its owner knows: missing, not 0, until settings say so.
        self.price: Price | None = price
        self.identity = f"hf:{digest_of(_files(place))}"
        self._base = digest_of(_files(Place(place.folder)))
        self._lane = str(place.adapter or "")
        self._shared = _Shared(Batcher(target, lambda: _Torch(place)))

    async def ask(self, request: Request, *, timeout: float, on_text: Callable[[str], None] | None = None) -> Reply:
        """One reply; streams token by token when ``on_text`` is given. Raises ProviderFault (bad_request, timeout, server_error)."""
        return await self._shared.batcher.ask(request, timeout=timeout, on_text=on_text, lane=self._lane)

    def join(self, other: object) -> bool:
        """Use the base that ``other`` has in memory, where both have the same and this one has loaded nothing yet; whether it does so."""
        if not isinstance(other, Hf) or other._base != self._base or not other._shared.users:
            return False
        self._shared = other._shared
        self._shared.users += 1
        return True

    async def close(self) -> None:
        """End the worker thread and let go of the model's memory, unless others use it too."""
        self._shared.users -= 1
        if self._shared.users <= 0:
            self._shared.users = 1  # a later question opens it again
            await self._shared.batcher.close()


@dataclass
class _Shared:
    """One base in memory, with the adapters of all who use it."""

    batcher: Batcher
    users: int = 1


class _Torch:
    """The engine: left-padded batches through ``model.generate``; each row samples, stops and streams for itself.

    A request's lane is the folder of its adapter, "" for the base: adapters are loaded when they are first asked, beside one base, and
    rows of one batch are run lane by lane.
    """

    def __init__(self, place: Place) -> None:
        with _loading:  # two threads that import transformers at once find half of it
            self._load(place)

    def _load(self, place: Place) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig
        from transformers.utils import logging

        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        dtype = torch.bfloat16 if self._device == "cuda" else torch.float32
        local = {"local_files_only": True, "trust_remote_code": False}
        self._tokenizer = AutoTokenizer.from_pretrained(place.folder, **local)
        self._tokenizer.deprecation_warnings["sequence-length-is-longer-than-the-specified-maximum"] = True  # said by the fault
        bars = logging.is_progress_bar_enabled()
        logging.disable_progress_bar()  # the worker's own output would land in the wrong cell
        try:
            model = AutoModelForCausalLM.from_pretrained(place.folder, dtype=dtype, use_safetensors=True, **local)
        finally:
            if bars:
                logging.enable_progress_bar()
        self._model = model.to(self._device).eval()
        self._lanes: list[str] = []  # the adapters that are loaded, the one used last at the end
        if place.adapter:
            self._load_adapter(str(place.adapter))
        if self._device == "cpu" and sum(p.numel() for p in model.parameters()) < _SMALL:
            _one_thread_here()
        own = model.generation_config
        ends = own.eos_token_id if isinstance(own.eos_token_id, list) else [own.eos_token_id]
        self._ends = frozenset(int(end) for end in (*ends, self._tokenizer.eos_token_id) if end is not None)
        self._pad = next((i for i in (self._tokenizer.pad_token_id, own.pad_token_id, *sorted(self._ends)) if i is not None), 0)
        # The model's own sampling defaults would change what "temperature 0" means from one model to the next.
        model.generation_config = GenerationConfig(pad_token_id=self._pad)
        self._context = getattr(model.config.get_text_config(), "max_position_embeddings", None) or 1 << 30

    def _load_adapter(self, lane: str) -> None:
        # peft imports bitsandbytes, which warns that it found no kernel of the hub's; nobody asked for one.
        stdlog.getLogger("bitsandbytes.backends.cpu.ops").setLevel(stdlog.ERROR)
        from peft import PeftModel

        how = {"adapter_name": _adapter_name(lane), "torch_device": self._device, "local_files_only": True}
        if isinstance(self._model, PeftModel):
            self._model.load_adapter(lane, **how)
        else:
            self._model = PeftModel.from_pretrained(self._model, lane, **how)
        self._model.eval()
        self._lanes.append(lane)
        if len(self._lanes) > _ADAPTERS:
            self._model.delete_adapter(_adapter_name(self._lanes.pop(0)))

    @contextlib.contextmanager
    def _in_lane(self, lane: str) -> Iterator[None]:
        if not lane:
            with self._model.disable_adapter() if self._lanes else contextlib.nullcontext():
                yield
            return
        if lane not in self._lanes:
            self._load_adapter(lane)
        self._lanes.remove(lane)
        self._lanes.append(lane)
        self._model.set_adapter(_adapter_name(lane))
        yield

    def prepare(self, job: Job) -> Draft:
        """Render the chat with the model's own template and tokenise it; a base model without one gets the bare text."""
        chat = chat_of(job.request)
        if self._tokenizer.chat_template:
            try:
                text = self._tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
            except Exception as error:  # templates refuse roles or orders of roles in their own words
                raise ProviderFault("bad_request", f"the model's chat template refuses these messages: {error}") from error
            ids = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        else:
            ids = self._tokenizer("\n\n".join(message["content"] for message in chat))["input_ids"]
        return Draft(job, ids, self._context - len(ids), decode=self._decode, ends=self._ends)

    def _decode(self, tokens: list[int]) -> str:
        text: str = self._tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text

    def write(self, drafts: list[Draft]) -> None:
        """Run the batch until every row is done, the rows of one adapter together."""
        for lane in dict.fromkeys(draft.job.lane for draft in drafts):
            with self._in_lane(lane):
                self._write([draft for draft in drafts if draft.job.lane == lane])

    def _write(self, drafts: list[Draft]) -> None:
        import torch

        width = max(len(draft.ids) for draft in drafts)
        ids = torch.full((len(drafts), width), self._pad, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, draft in enumerate(drafts):
            ids[row, width - len(draft.ids) :] = torch.tensor(draft.ids)
            mask[row, width - len(draft.ids) :] = 1

        def choose(_: Any, scores: Any) -> Any:
            """Make the token that each row chooses the likeliest, so that ``generate`` takes it."""
            for row, draft in enumerate(drafts):
                if not (draft.done or draft.greedy):
                    scores[row, draft.choose(scores[row].float().cpu().numpy())] = float("inf")
            return scores

        def take(so_far: Any, _: Any, **__: Any) -> Any:
            for draft, token in zip(drafts, so_far[:, -1].tolist(), strict=True):
                if not draft.done:
                    draft.add(token)
            return torch.tensor([draft.done for draft in drafts], device=so_far.device)

        most = max(draft.limit for draft in drafts)
        with torch.inference_mode():
            self._model.generate(
                input_ids=ids.to(self._device),
                attention_mask=mask.to(self._device),
                max_new_tokens=most,
                do_sample=False,
                logits_processor=[choose],
                stopping_criteria=[take],
            )


def _adapter_name(lane: str) -> str:
    # torch takes no dots in the name of a module.
    return f"a{sha256(lane.encode()).hexdigest()[:16]}"


def _one_thread_here() -> None:
    """One thread for what this thread computes; all others, also those to come, keep the number they had."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    # The number is each thread's own, but the last one set is what new threads begin with: another thread puts that back.
    again = threading.Thread(target=torch.set_num_threads, args=(before,))
    again.start()
    again.join()


def _place(target: str) -> Place:
    if not target:
        raise BadInput("'hf' needs a model. Type hf:PATH, hf:PATH+ADAPTER or hf:ORG/NAME.")
    base, plus, adapter = target.rpartition("+")
    if not plus or Path(target).expanduser().is_dir():
        return Place(model_folder(target))
    folder = Path(adapter).expanduser()
    if not (folder / "adapter_config.json").is_file() or not (folder / "adapter_model.safetensors").is_file():
        raise BadInput(f"no PEFT adapter in {adapter!r}: it must be a folder with adapter_config.json and adapter_model.safetensors.")
    return Place(model_folder(base), folder.absolute())


def model_folder(name: str) -> Path:
    """The folder of a model named by its path or hub id, or ``tiny`` where no folder has that name. Raises BadInput for anything else."""
    folder = Path(name).expanduser()
    if not folder.is_dir() and name == "tiny":
        return _EMBEDDED
    if not folder.is_dir():
        if not re.fullmatch(r"[\w.-]+/[\w.-]+(@[\w./-]+)?", name) or name.startswith("."):
            raise BadInput(f"no folder {name!r}. hf: takes a folder that save_pretrained wrote, or a hub id such as ORG/NAME.")
        folder = _cached(name)
    if not (folder / "config.json").is_file():
        raise BadInput(f"{folder} holds no config.json, so it is no transformers model. Name the folder that save_pretrained wrote.")
    if not any(folder.glob("*.safetensors")):
        raise BadInput(f"{folder} holds no .safetensors file; weights in other formats are not loaded. Save the model as safetensors.")
    return folder.absolute()


def _cached(hub_id: str) -> Path:
    """The folder of a hub id in the local cache. It is never fetched from here: a download belongs to the user, not to a cell."""
    if importlib.util.find_spec("huggingface_hub") is None:
        raise MissingExtra("transformers", "hf")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    name, _, revision = hub_id.partition("@")
    try:
        return Path(snapshot_download(name, revision=revision or None, local_files_only=True))
    except LocalEntryNotFoundError as error:
        wanted = f"{name} --revision {revision}" if revision else name
        raise BadInput(f"{hub_id} is neither a folder nor in the local hub cache. Type: hf download {wanted}") from error


def _files(place: Place) -> list[Path]:
    folders = [place.folder, *([place.adapter] if place.adapter else [])]
    return [path for folder in folders for path in sorted(folder.iterdir()) if path.suffix in _READ and path.is_file()]
