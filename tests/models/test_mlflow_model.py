"""Models that MLflow keeps: which version is asked, what it is given, and which are not opened at all."""

import asyncio
import textwrap
import time

import pytest

from llmops_lab.errors import BadInput, ProviderFault, UnknownName
from llmops_lab.models import mlflow as provider_file
from llmops_lab.records import Message, Request, Usage
from llmops_lab.settings import Settings
from llmops_lab.track import connect as track

CHAT = Request((Message("system", "be brief"), Message("user", "hello there")), {"temperature": 0.5, "max_tokens": 7})

CODE = {
    "texts": """
        import mlflow
        from mlflow.pyfunc import PythonModel

        class Shout(PythonModel):
            def predict(self, context, model_input: list[str], params=None) -> list[str]:
                return [text.upper() + "VERSION" for text in model_input]

        mlflow.models.set_model(Shout())
    """,
    "chat": """
        import mlflow
        from mlflow.pyfunc import ChatModel
        from mlflow.types.llm import ChatCompletionResponse

        class Chat(ChatModel):
            def predict(self, context, messages, params):
                said = f"{len(messages)} messages, {params.temperature}, {params.max_tokens}: {messages[-1].content}"
                return ChatCompletionResponse.from_dict({
                    "choices": [{"index": 0, "message": {"role": "assistant", "content": said}, "finish_reason": "stop"}],
                    "usage": {"prompt_tokens": 5, "completion_tokens": 6, "total_tokens": 11},
                })

        mlflow.models.set_model(Chat())
    """,
    "agent": """
        import mlflow
        from mlflow.pyfunc import ChatAgent
        from mlflow.types.agent import ChatAgentMessage, ChatAgentResponse

        class Agent(ChatAgent):
            def predict(self, messages, context=None, custom_inputs=None):
                return ChatAgentResponse(messages=[ChatAgentMessage(role="assistant", content="agent: " + messages[-1].content, id="1")])

        mlflow.models.set_model(Agent())
    """,
    "slow": """
        import time
        import mlflow
        from mlflow.pyfunc import PythonModel

        class Slow(PythonModel):
            def predict(self, context, model_input: list[str], params=None) -> list[str]:
                if "sleep" in model_input[0]:
                    time.sleep(1.5)
                if "break" in model_input[0]:
                    raise ValueError("it broke")
                if "number" in model_input[0]:
                    return 3
                return model_input

        mlflow.models.set_model(Slow())
    """,
}


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", "")
        for name, value in track.DEFAULTS.items():
            patch.setenv(name, value)
        settings = Settings(home=str(tmp_path_factory.mktemp("home")))
        client = track.client(settings)
        folder = tmp_path_factory.mktemp("code")
        import mlflow

        # MLflow keeps the experiment of an earlier test, which this store does not have.
        patch.setattr("mlflow.tracking.fluent._active_experiment_id", None)
        uris = {}
        for name, code in {**CODE, "texts2": CODE["texts"].replace("VERSION", " 2")}.items():
            path = folder / f"{name}.py"
            path.write_text(textwrap.dedent(code).replace("VERSION", ""))
            with mlflow.start_run():
                logged = mlflow.pyfunc.log_model(
                    name="model", python_model=str(path), registered_model_name=name.rstrip("2"), pip_requirements=[]
                )
            uris[name] = logged.model_uri
        client.set_registered_model_alias("texts", "champion", 1)
        yield settings, client, uris


def open_model(lab, target):
    return provider_file.connect(target, settings=lab[0])


def ask(provider, request=CHAT, *, timeout=30.0, pieces=None):
    async def all_of_it():
        try:
            return await provider.ask(request, timeout=timeout, on_text=None if pieces is None else pieces.append)
        finally:
            await provider.close()

    return asyncio.run(all_of_it())


def test_a_text_model(lab):
    pieces = []
    got = ask(open_model(lab, "models:/texts/1"), pieces=pieces)
    assert (got.text, got.finish_reason, got.usage) == ("BE BRIEF\nHELLO THERE", "stop", Usage())
    assert pieces == [got.text]


def test_a_chat_model_gets_messages_and_parameters(lab):
    got = ask(open_model(lab, "models:/chat/1"))
    assert (got.text, got.usage) == ("2 messages, 0.5, 7: hello there", Usage(5, 6))


def test_a_chat_agent(lab):
    assert ask(open_model(lab, "models:/agent/1")).text == "agent: hello there"


def test_an_alias_is_resolved_once_and_enters_the_identity_as_its_version(lab):
    _, client, uris = lab
    first = open_model(lab, "models:/texts@champion")
    assert first.identity == open_model(lab, "models:/texts/1").identity
    assert first.identity.startswith("mlflow:models:/texts/1#")
    client.set_registered_model_alias("texts", "champion", 2)
    second = open_model(lab, "models:/texts@champion")
    assert second.identity != first.identity
    assert (ask(first).text, ask(second).text) == ("BE BRIEF\nHELLO THERE", "BE BRIEF\nHELLO THERE 2")
    client.set_registered_model_alias("texts", "champion", 1)
    assert ask(open_model(lab, uris["texts2"])).text == "BE BRIEF\nHELLO THERE 2"


@pytest.mark.parametrize(
    ("target", "error", "words"),
    [
        ("", BadInput, "models:/NAME"),
        ("texts", BadInput, "models:/NAME"),
        ("/tmp/model", BadInput, "models:/NAME"),
        ("models:/text@champion", UnknownName, "texts"),
        ("models:/texts@champon", UnknownName, "champion"),
        ("models:/texts/9", BadInput, "texts/9"),
        ("models:/nobody/1", UnknownName, "texts"),
        ("models:/m-0123456789abcdef0123456789abcdef", BadInput, "m-0123456789abcdef"),
        ("runs:/0123456789abcdef0123456789abcdef/model", BadInput, "0123456789abcdef"),
    ],
)
def test_a_model_that_is_not_there(lab, target, error, words):
    with pytest.raises(error, match=words):
        open_model(lab, target)


def test_a_model_that_fails_or_hangs_is_a_typed_fault(lab):
    provider = open_model(lab, "models:/slow/1")

    async def all_of_it():
        async def fault(text, timeout=30.0):
            with pytest.raises(ProviderFault) as caught:
                await provider.ask(Request((Message("user", text),)), timeout=timeout)
            return caught.value

        found = [await fault("break"), await fault("number"), await fault("sleep", 0.2)]
        started = time.monotonic()
        after = await provider.ask(Request((Message("user", "again"),)), timeout=30)
        waited = time.monotonic() - started
        await provider.close()
        return found, after, waited

    (broke, number, hung), after, waited = asyncio.run(all_of_it())
    assert (broke.kind, broke.retryable, "it broke" in str(broke)) == ("server_error", False, True)
    assert (number.kind, number.retryable) == ("malformed", False)
    assert (hung.kind, hung.in_doubt) == ("timeout", False)
    assert (after.text, waited < 1.0) == ("again", True)


def test_waiting_for_a_turn_is_not_timed(lab):
    provider = open_model(lab, "models:/slow/1")

    async def three():
        requests = [Request((Message("user", f"sleep {index}"),)) for index in range(2)]
        return await asyncio.gather(*(provider.ask(request, timeout=2.5) for request in requests))

    assert [reply.text for reply in asyncio.run(three())] == ["sleep 0", "sleep 1"]


def test_pickle_is_refused_unless_the_user_allows_it(lab, monkeypatch):
    import mlflow
    from mlflow.pyfunc import PythonModel

    class Pickled(PythonModel):
        def predict(self, context, model_input: list[str], params=None) -> list[str]:
            return ["pickled " + text for text in model_input]

    with mlflow.start_run():
        uri = mlflow.pyfunc.log_model(name="model", python_model=Pickled(), pip_requirements=[]).model_uri
    with pytest.raises(BadInput, match="pickle"):
        open_model(lab, uri)
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "true")
    assert ask(open_model(lab, uri)).text == "pickled be brief\nhello there"


def test_a_description_that_lies_about_its_flavours_is_refused():
    flavours = {"transformers": {}, "python_function": {"loader_module": "my_loader", "model_code_path": "x.py"}}
    with pytest.raises(BadInput, match="pickle"):
        provider_file._check_trust("models:/x/1", flavours)


@pytest.fixture(scope="module")
def small_model(lab, tmp_path_factory):
    transformers, torch = pytest.importorskip("transformers"), pytest.importorskip("torch")
    import mlflow
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = {"<unk>": 0, "<eos>": 1, **{f"w{index}": index + 2 for index in range(30)}}
    inner = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>", eos_token="<eos>", pad_token="<eos>")
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }} {% endfor %}"
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=32, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, pad_token_id=1, eos_token_id=1
    )
    folder = tmp_path_factory.mktemp("weights")
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    pipeline = transformers.pipeline("text-generation", model=str(folder), tokenizer=str(folder))
    with pytest.MonkeyPatch.context() as patch, mlflow.start_run():
        patch.setenv("HF_HUB_OFFLINE", "1")  # MLflow asks the hub for a model card and a licence
        mlflow.transformers.log_model(pipeline, name="model", task="llm/v1/chat", registered_model_name="small", pip_requirements=[])


def test_a_transformers_model_chats(lab, small_model):
    got = ask(open_model(lab, "models:/small/1"), Request((Message("user", "w1 w2 w3"),), {"max_tokens": 4}))
    assert got.usage.output_tokens <= 4 and got.usage.input_tokens >= 3
    assert got.finish_reason in ("stop", "length") and got.latency_s > 0


def test_a_transformers_model_with_code_of_its_own_is_refused(lab, small_model, monkeypatch):
    import transformers

    monkeypatch.setattr(transformers, "LlamaForCausalLM", None)
    monkeypatch.delattr(transformers, "LlamaForCausalLM")
    monkeypatch.setattr(type(transformers), "__getattr__", lambda module, name: (_ for _ in ()).throw(AttributeError(name)))
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "true")
    with pytest.raises(BadInput, match="own folder"):
        open_model(lab, "models:/small/1")
