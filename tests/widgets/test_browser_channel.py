"""The panel's patience: late answers count, a busy kernel is told from a silent one, and lost requests are said."""

from __future__ import annotations

import pytest

from vae_plugin.widgets.frontend import FOLDER

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]

ADDRESS = "http://127.0.0.1/channel"  # served from the folder by the browser's own router
SET_UP = """
  const timers = [];
  globalThis.setTimeout = (work) => timers.push(work);
  globalThis.clearTimeout = (id) => { timers[id - 1] = null; };
  const elapse = () => { const due = timers.splice(0); timers.length = 0; for (const work of due) work?.(); };
  const sent = [], told = [], log = [];
  let hear;
  const model = { on: (_, receive) => { hear = receive; }, off() {}, send: (message) => sent.push(message) };
  const note = (kind) => (value) => told.push([kind, value]);
  const listeners = { frame() {}, sheet() {}, error: note("error"), silent: note("silent"), working: note("working") };
  const { Channel } = await import(`${ADDRESS}/channel.js`);
  const channel = new Channel(model, "v", listeners);
  const last = (kind) => told.filter(([name]) => name === kind).at(-1)?.[1];
  const answer = (id, content = {}) => hear({ kind: "reply", view: "v", id, ...content }, []);
  const settled = () => new Promise((done) => { queueMicrotask(() => queueMicrotask(done)); });
  const ask = () => channel.ask({ do: "save" }).then(() => log.push("answered"), (error) => log.push(error.message));
"""


@pytest.fixture(scope="module")
def run(browser):
    """A function that runs JavaScript with a channel whose clock and kernel are the test's."""
    page = browser.context.new_page()

    def serve(route):
        name = route.request.url.rsplit("/", 1)[1]
        if name == "page.html":
            route.fulfill(body="<!DOCTYPE html><title>channel</title>", content_type="text/html")
        else:
            route.fulfill(body=(FOLDER / name).read_text(encoding="utf-8"), content_type="text/javascript")

    page.route(f"{ADDRESS}/*", serve)

    def run(body):
        page.goto(f"{ADDRESS}/page.html")
        return page.evaluate(f"async () => {{ const ADDRESS = '{ADDRESS}'; {SET_UP} {body} }}")

    yield run
    page.close()


def test_an_answer_counts_however_late_it_comes(run):
    assert run("""
      ask();
      for (let i = 0; i < 5; i += 1) elapse();
      const silent = last("silent");
      answer(1);
      await settled();
      return [silent, last("silent"), log];
    """) == [True, False, ["answered"]]


def test_a_kernel_that_works_is_not_silent(run):
    assert run("""
      ask();
      for (let i = 0; i < 5; i += 1) { elapse(); answer(sent.at(-1).id, { working: sent.at(-1).ids }); }
      const during = [last("silent"), last("working"), sent.at(-1).do, sent.at(-1).ids];
      answer(1);
      await settled();
      return [...during, last("working"), log];
    """) == [False, True, "alive", [1], False, ["answered"]]


def test_a_request_that_never_reached_the_kernel_is_said(run):
    told, log, waiting = run("""
      ask();
      elapse();
      answer(sent.at(-1).id, { working: [] });
      await settled();
      return [last("error"), log, channel.asked.size];
    """)
    assert "lost" in told
    assert (log, waiting) == (["lost"], 0)


def test_a_drag_goes_on_after_its_request_was_lost(run):
    assert run("""
      channel.edit([{ axis: "a", value: 1 }], "g");
      channel.edit([{ axis: "a", value: 2 }], "g");
      elapse();
      answer(sent.at(-1).id, { working: [] });
      return sent.at(-1).edits;
    """) == [{"axis": "a", "value": 2}]


def test_after_silence_the_kernel_waits_for_no_earlier_message(run):
    assert run("""
      channel.edit([{ axis: "a", value: 1 }], "g");
      elapse(); elapse();
      return [sent[0].first, sent.slice(1).map(({ first }) => first), last("silent"), channel.flying];
    """) == [True, [False, True], True, None]
