"""A headless Chromium, controlled through its DevTools over two pipes."""

import json
import os
import shutil
import subprocess
import threading
import time

CHROMIUM = shutil.which("chromium")
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
    "--remote-debugging-pipe",
]  # fmt: skip
#: What a page has to say beside what it shows.
CONSOLE = ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Page.javascriptDialogOpening")

#: The lowest contrast of any text with what is behind it, and that text: WCAG 2 asks for 4.5.
CONTRAST = """(() => {
  const parse = text => { const n = text.match(/[\\d.]+/g).map(Number); return [n[0], n[1], n[2], n[3] ?? 1]; };
  const over = (top, below) => [0, 1, 2].map(i => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
  const behind = e => {
    if (!e) return [255, 255, 255, 1];
    const own = parse(getComputedStyle(e).backgroundColor);
    return own[3] === 1 ? own : over(own, behind(e.parentElement));
  };
  const light = c => { const l = c.slice(0, 3).map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * l[0] + 0.7152 * l[1] + 0.0722 * l[2]; };
  let worst = [99, ''];
  for (const e of document.body.querySelectorAll('*')) {
    const text = [...e.childNodes].filter(n => n.nodeType === 3).map(n => n.data.trim()).join('');
    if (!text) continue;
    const style = getComputedStyle(e), below = behind(e);
    const ink = over(parse(e.closest('svg') ? style.fill : style.color), below);
    const [a, b] = [light(ink), light(below)].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < worst[0]) worst = [ratio, text];
  }
  return worst;
})()"""  # noqa: E501 (a program of another language)


class Browser:
    """One page of a browser with an empty profile: :meth:`show` a file, :meth:`value` of an expression in it."""

    def __init__(self, profile, seconds=60):
        theirs, self._write = os.pipe()
        self._read, answers = os.pipe()

        def connect():  # the browser reads from 3 and writes to 4; neither may be lost while the other is set
            taken, given = os.dup(theirs), os.dup(answers)
            os.dup2(taken, 3)
            os.dup2(given, 4)

        line = [CHROMIUM, *FLAGS, f"--user-data-dir={profile}"]
        self._process = subprocess.Popen(line, preexec_fn=connect, close_fds=False, stderr=subprocess.DEVNULL)
        os.close(theirs)
        os.close(answers)
        self._timer = threading.Timer(seconds, self._process.kill)  # then reading ends, and the test fails
        self._timer.start()
        self._number, self._unread, self.events, self._session = 0, b"", [], {}
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = {"sessionId": attached["sessionId"]}
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def close(self):
        self._timer.cancel()
        self._process.terminate()
        self._process.wait()
        os.close(self._read)
        os.close(self._write)

    def call(self, method, **parameters):
        """Return the result of a command; what happens meanwhile is kept in ``events``."""
        self._number += 1
        command = {"id": self._number, "method": method, "params": parameters, **self._session}
        os.write(self._write, json.dumps(command).encode() + b"\0")
        while (answer := self._next()).get("id") != self._number:
            self.events.append(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def show(self, path, width=1000, scheme="light"):
        """Load a file in a window of this width, and wait until all of it is there."""
        self.show_address(path.resolve().as_uri(), width, scheme)

    def show_address(self, address, width=1000, scheme="light"):
        """Load what is at an address, likewise."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=width < 500
        )
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.events.clear()
        self.call("Page.navigate", url=address)
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.events.append(self._next())

    def value(self, expression):
        """Return the value of a JavaScript expression in the page, or what it promises."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def wait(self, expression, seconds=30):
        """Wait until an expression holds."""
        end = time.monotonic() + seconds
        while not self.value(expression):
            assert time.monotonic() < end, expression
            time.sleep(0.02)

    def choose(self, selector, *paths):
        """Choose files, or a folder, in an input."""
        document = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=document, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", files=[str(path) for path in paths], nodeId=node)

    @property
    def complaints(self):
        """What the page wrote to the console, threw, or asked."""
        return [event for event in self.events if event["method"] in CONSOLE]

    @property
    def requests(self):
        """The addresses that were asked for."""
        asked = (event for event in self.events if event["method"] == "Network.requestWillBeSent")
        return [event["params"]["request"]["url"] for event in asked]

    def _next(self):
        while b"\0" not in self._unread:
            part = os.read(self._read, 2**16)
            assert part, "the browser has gone"
            self._unread += part
        message, _, self._unread = self._unread.partition(b"\0")
        return json.loads(message)
