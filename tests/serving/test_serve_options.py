"""What `mer serve` refuses before it loads anything: one sentence and exit code 2."""

import pytest

NUMBERS = ["max-megabytes", "max-seconds", "max-pixels", "decode-seconds", "upload-seconds", "at-once", "look-every"]
NUMBERS += ["max-minutes", "max-recording-megabytes"]


@pytest.mark.parametrize("option", [*NUMBERS, "port"])
@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "-1", "1e300"])
def test_a_number_that_cannot_be(mer, tmp_path, option, value):
    code, out, err = mer(tmp_path, "serve", "--model", "models/nix/round-00", f"--{option}", value)
    assert (code, out) == (2, "")
    assert option.replace("-", "_") in err.replace("-", "_")
    assert not err.startswith("error: ") or err.endswith((f"got {float(value)}", f"got {value}"))
    assert "models/nix" not in err


@pytest.mark.parametrize("option", NUMBERS)
def test_none_of_them_may_be_zero(mer, tmp_path, option):
    code, _, err = mer(tmp_path, "serve", "--model", "models/nix/round-00", f"--{option}", "0")
    assert code == 2
    assert err.startswith(f"error: {option.replace('-', '_')} must lie in [")


@pytest.mark.parametrize(
    "name", ["a*b", "a.*", "*a", "", "http://mer.example.org", "mer.example.org:8000", "::1", "a b"]
)
def test_an_allowed_host_that_no_request_could_name(mer, tmp_path, name):
    code, _, err = mer(tmp_path, "serve", "--model", "models/nix/round-00", "--allow-host", name)
    assert code == 2
    assert err.startswith("error: an allowed host is a name such as mer.example.org")
    assert err.endswith(f"got {name!r}")


@pytest.mark.parametrize("name", ["*", "mer.example.org", "*.example.org", "[::1]", "10.0.0.1"])
def test_an_allowed_host(mer, tmp_path, name):
    """The model is what is refused."""
    command = ["serve", "--port", "0", "--model", "models/nix/round-00", "--allow-host", name]
    code, _, err = mer(tmp_path, *command)
    assert (code, err) == (2, "error: models/nix/round-00 is not the folder of a model, as models/<system>/round-NN is")


@pytest.mark.parametrize(
    ("host", "sentence"),
    [
        ("", "an empty host would be every address"),
        ("ü" * 70, f"{'ü' * 70} port 0 cannot be used"),
        ("203.0.113.1", "203.0.113.1 port 0 cannot be used"),
    ],
)
def test_a_host_that_cannot_be_listened_on(mer, tmp_path, host, sentence):
    code, _, err = mer(tmp_path, "serve", "--port", "0", "--model", "models/nix/round-00", "--host", host)
    assert code == 2
    assert err.startswith(f"error: {sentence}")
    assert len(err.splitlines()) == 1
