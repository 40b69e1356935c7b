import asyncio
import logging

from emu.coredns.on_disk import follow


async def until(condition):
    deadline = asyncio.get_running_loop().time() + 5
    while not condition():
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.001)


async def test_a_corefile_on_disk_is_followed(tmp_path, caplog):
    caplog.set_level(logging.ERROR)
    path = tmp_path / "Corefile"
    texts = []

    async def take_up(text):
        texts.append(text)

    task = asyncio.create_task(follow(path, take_up, 0.001))
    await until(lambda: "cannot be read" in caplog.text)
    for text in ("one", "two"):
        path.with_suffix(".new").write_text(text)
        path.with_suffix(".new").rename(path)
        await until(lambda text=text: texts[-1:] == [text])
    path.unlink()
    await until(lambda: len(caplog.records) == 2)
    path.write_text("two")
    path.touch()
    path.write_text("three")
    await until(lambda: texts[-1:] == ["three"])
    assert texts == ["one", "two", "three"]
    task.cancel()
