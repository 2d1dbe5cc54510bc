"""Writes wheels/greeting-1.0-py3-none-any.whl: a local index of one wheel."""
import os
import zipfile

os.makedirs("wheels", exist_ok=True)
info = "greeting-1.0.dist-info"
files = {
    "greeting.py": "def greet(name):\n    return f'hello {name}'\n",
    f"{info}/METADATA": "Metadata-Version: 2.1\nName: greeting\nVersion: 1.0\n",
    f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
}
with zipfile.ZipFile("wheels/greeting-1.0-py3-none-any.whl", "w") as wheel:
    for name, content in files.items():
        wheel.writestr(name, content)
    wheel.writestr(f"{info}/RECORD", "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"]))
