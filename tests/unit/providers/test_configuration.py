import pytest

from packshot.domain.errors import InvalidInput
from packshot.domain.providers import Provider
from packshot.providers.configuration import read_providers

WHOLE = """
[openai]
base_url = "https://api.openai.com/v1/"
key_variable = "OPENAI_API_KEY"
models = ["gpt-image-1"]
sizes = ["1024x1024", "1536x1024"]
max_images = 10
price_per_image = 0.04
timeout_s = 30

[openai.settings]
seed = "seed"

[openai.fields]
quality = "high"

[local]
base_url = "http://127.0.0.1:8001/v1"
sizes = "any"
"""


def read(tmp_path, text):
    (tmp_path / "providers.toml").write_text(text)
    return read_providers(tmp_path / "providers.toml")


def test_a_file_declares_what_each_provider_can_do(tmp_path):
    configs = read(tmp_path, WHOLE)
    assert [configs[name].provider(name) for name in configs] == [
        Provider(
            name="openai",
            models=("gpt-image-1",),
            sizes=((1024, 1024), (1536, 1024)),
            settings=("seed",),
            price_per_image=0.04,
        ),
        Provider(name="local", sizes=None),
    ]
    assert configs["openai"].base_url == "https://api.openai.com/v1"


def test_no_file_declares_nothing(tmp_path):
    assert read_providers(tmp_path / "providers.toml") == {}


@pytest.mark.parametrize(
    "url",
    [
        "http://api.openai.com/v1",
        "http://127.0.0.1.example.org/v1",
        "http://localhost.example.org",
        "http://10.0.0.1/v1",
        "ftp://127.0.0.1/v1",
        "https://key@api.openai.com/v1",
        "https://api.openai.com/v1?key=1",
        "https:///v1",
        "v1",
    ],
)
def test_an_address_is_https_or_leads_to_this_machine(tmp_path, url):
    with pytest.raises(InvalidInput, match="base_url"):
        read(tmp_path, f'[a]\nbase_url = "{url}"')


@pytest.mark.parametrize("url", ["http://localhost:1/v1", "http://127.0.0.2/v1", "http://[::1]:80/v1"])
def test_this_machine_may_be_asked_in_the_clear(tmp_path, url):
    assert read(tmp_path, f'[a]\nbase_url = "{url}"')["a"].base_url == url


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("colour = 1", "colour"),
        ("max_images = 0", "max_images"),
        ("max_images = '2'", "max_images"),
        ("price_per_image = -1", "price_per_image"),
        ("timeout_s = 0", "timeout_s"),
        ("key_variable = 'sk-1234'", "key_variable"),
        ("sizes = ['large']", "sizes"),
        ("settings = {colour = 'c'}", "settings"),
        ("settings = {seed = 'n'}", "n would be sent twice"),
        ("settings = {seed = 's'}\nfields = {s = 1}", "s would be sent twice"),
        ("fields = {prompt = 'x'}", "prompt would be sent twice"),
        ("= 3", "cannot read"),
    ],
)
def test_a_wrong_line_is_named(tmp_path, line, named):
    with pytest.raises(InvalidInput, match=named):
        read(tmp_path, f'[a]\nbase_url = "https://a.example"\n{line}')


@pytest.mark.parametrize("name", ["Open", "a_b", "1a", '"a/b"'])
def test_a_name_of_a_provider_cannot_be_mistaken_for_an_identifier_or_a_path(tmp_path, name):
    with pytest.raises(InvalidInput, match="pattern"):
        read(tmp_path, f'[{name}]\nbase_url = "https://a.example"')
