"""No secret in what is shown: of made-up URLs and environments none comes out."""

from __future__ import annotations

import json
import string
import time
import urllib.parse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidray import masking, storage
from vidray.masking import without_secrets

_WORD = st.text(string.ascii_letters + string.digits, min_size=8, max_size=20)
# What people put into passwords, and what a URL allows unquoted, "@", ":" and "/" among it.
_PASSWORD = st.text(string.ascii_letters + string.digits + "@:!$&*+,;=~._-%", min_size=8)
_SCHEME = st.sampled_from(["http", "https", "HTTPS", "s3", "S3", "gs", "ftp", "sftp", "hdfs"])
_AROUND = st.sampled_from([("", ""), ('"', '"'), ("'", "'"), ("(", ")"), ("[", "]"), ("<", ">,")])


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://u:p@SECRET@h/x", "https://h/x"),
        ("HTTPS://U:P@H/x", "HTTPS://H/x"),
        ("s3://key:secret@bucket/a@b.mp4", "s3://bucket/a@b.mp4"),
        ("s3://AKIA:wJalr/K7MDENG/bPx@bucket/clips", "s3://bucket/clips"),
        ("('http://user:pass@h:9000/x')", "('http://h:9000/x')"),
        ("http://h:9000/a@b.mp4: refused", "http://h:9000/a@b.mp4: refused"),
        ("http://[::1]:9000/a@b", "http://[::1]:9000/a@b"),
        ("see https://h/a?token, then", "see https://h/a, then"),
        ("https://h/a#access", "https://h/a"),
        ('["https://h/a?s=1","https://u@g/b?t=2"]', '["https://h/a","https://g/b"]'),
        ("http:/u:p@h/x", "http:/h/x"),
        ("simplecache::https://u:p@h/x", "simplecache::https://h/x"),
        ("s3://b/clip?.mp4 and s3://b/a#1.mp4", "s3://b/clip?.mp4 and s3://b/a#1.mp4"),
        ("s3://b/a.mp4?X-Amz-Signature=abc", "s3://b/a.mp4"),
        ("abfs://container@account/x", "abfs://container@account/x"),
        ("file:///a@b/c?d=e#f", "file:///a@b/c?d=e#f"),
        ("with url: /a.mp4?X-Amz-Signature=abc&x=1", "with url: /a.mp4?X-Amz-Signature=***&x=1"),
    ],
)
def test_urls_as_they_are_told(text: str, shown: str) -> None:
    assert without_secrets(text) == shown
    assert storage.without_secrets is without_secrets


@given(_SCHEME, _WORD, _PASSWORD, _WORD, _AROUND)
def test_no_user_password_or_query_of_a_url_survives(
    scheme: str, user: str, password: str, value: str, around: tuple[str, str]
) -> None:
    before, after = around
    url = f"{scheme}://{user}:{password}@host.example/path/clip.mp4"
    text = f"cannot open {before}{url}?sign={value}&more={value}#f={value}{after} today"
    shown = without_secrets(text)
    assert shown == f"cannot open {before}{scheme}://host.example/path/clip.mp4{after} today"
    assert without_secrets(shown) == shown


@given(st.text())
def test_text_without_url_and_secrets_stays_as_it_is(text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for name in list(masking.os.environ):
            patch.delenv(name)
        if ":/" not in text and "?" not in text and "&" not in text:
            assert without_secrets(text) == text


@pytest.mark.parametrize(
    "text",
    ["a-" * 50_000, "http://" + "a+" * 50_000, "http://h/?" + ")." * 50_000 + "x", "?a_" * 30_000],
    ids=["words", "words in a URL", "closing marks", "queries"],
)
def test_long_text_takes_no_longer_than_its_length_asks_for(text: str) -> None:
    began = time.process_time()
    without_secrets(text)
    assert time.process_time() - began < 10  # 0.5 s; the square of its length, minutes.


def test_urls_glued_to_what_is_before_them() -> None:
    for before in ("1", "_", "é", "url_", "x" * 60):
        assert without_secrets(f"{before}https://u:secret@h/x") == f"{before}https://h/x"


_VARIABLES = st.sampled_from(
    [
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "GITHUB_TOKEN",
        "DB_PASSWORD",
        "my_api_key",
        "PGPASSWORD",
        "MYSQL_PWD",
        "DB_PASS",
        "PASSWORD2",
        "SECRETKEY",
        "accessToken",
        "API_TOKEN_1",
    ]
)
_SECRET = st.text(string.ascii_letters + string.digits + "/+=%&\"'\\@:é", min_size=8)


@given(_VARIABLES, _SECRET.filter(lambda secret: secret.strip() == secret))
def test_no_secret_of_the_environment_survives(name: str, secret: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(name, secret)
        for told in (
            secret,
            urllib.parse.quote(secret, safe=""),
            urllib.parse.quote_plus(secret),
            json.dumps(secret)[1:-1],
            repr(secret)[1:-1],
        ):
            shown = without_secrets(f"signature <{told}> is wrong")
            assert shown == "signature <***> is wrong", told


@pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL", "HTTPS_PROXY", "AWS_ENDPOINT_URL_S3"])
def test_users_and_passwords_in_urls_of_the_environment(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "http://somebody:p%40ss/word1@host:9000")
    for text in ("p%40ss/word1", "p@ss/word1", "somebody:p@ss/word1", "p%40ss%2Fword1"):
        assert without_secrets(f"<{text}>") == "<***>"
    assert without_secrets("cannot connect to somebody:p%40ss/word1@host:9000") == (
        "cannot connect to ***host:9000"
    )


def test_a_key_of_many_lines_is_masked_however_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    body = ["MIIEvQIBADANBgkqhkiG9w0BAQEF", "AASCBKcwggSjAgEAAoIBAQC7VJT"]
    monkeypatch.setenv("DEPLOY_KEY", "\n".join(["-----BEGIN KEY-----", *body, "-----END KEY-----"]))
    whole = masking.os.environ["DEPLOY_KEY"]
    for told in (whole, " ".join(whole.split()), repr(whole), json.dumps(whole), *body):
        assert "***" in without_secrets(told)
        assert not any(line in without_secrets(f"said: {told}") for line in body)


def test_a_secret_address_is_masked_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLACK_WEBHOOK_SECRET", "https://hooks.example.org/T01/B02/abcdefgh")
    shown = without_secrets("posting to https://hooks.example.org/T01/B02/abcdefgh: no answer")
    assert shown == "posting to ***: no answer"


def test_the_current_folder_is_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PWD", "/a/folder/removed")
    monkeypatch.setenv("OLDPWD", "/a/folder/before")
    assert without_secrets("/a/folder/removed/x /a/folder/before/y") == (
        "/a/folder/removed/x /a/folder/before/y"
    )


def test_what_only_looks_secret_is_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")  # Short: a word of other messages.
    monkeypatch.setenv("SSH_KEY", str(tmp_path))
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", "/var/run/secrets/token")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "parallel")
    text = f"testing {tmp_path} /var/run/secrets/token parallel"
    assert without_secrets(text) == text


@pytest.mark.parametrize(
    ("uri", "has"),
    [
        ("https://u:p@h/x", True),
        ("https://u@h/x", True),
        ("s3://key:sec/ret@bucket/x", True),
        ("S3://key@bucket", True),
        ("sftp://user:pass@h/x", True),
        ("sftp://user@h/x", False),
        ("abfs://container@account/x", False),
        ("s3://bucket/a@b.mp4", False),
        ("https://h/a@b:c", False),
        ("/videos/u:p@h.mp4", False),
        ("file:///a:b@c", False),
    ],
)
def test_addresses_that_tell_a_password(uri: str, has: bool) -> None:
    assert masking.has_password(uri) is has
