"""
OpenStack Swift with its S3 API, all its servers in one process: swift-server.py FOLDER KEY SECRET. Prints
the port when it serves, and ends with its standard input. KEY has the form account:user.
"""

import os
import sys
from array import array

import eventlet
from swift.common import utils

utils.eventlet_monkey_patch()

from eventlet import wsgi  # noqa: E402
from swift.common.ring import RingData  # noqa: E402
from swift.common.wsgi import SwiftHttpProtocol, loadapp  # noqa: E402

FOLDER, KEY, SECRET = os.path.realpath(sys.argv[1]), sys.argv[2], sys.argv[3]
DEFAULTS = f"""[DEFAULT]
swift_dir = {FOLDER}
devices = {FOLDER}/devices
mount_check = false
disable_fallocate = true
fallocate_reserve = 0
log_level = ERROR
"""
# Without a memcached, which it does without.
PROXY = f"""
[pipeline:main]
pipeline = proxy-logging cache s3api tempauth bulk slo proxy-logging proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
[filter:proxy-logging]
use = egg:swift#proxy_logging
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:9
[filter:s3api]
use = egg:swift#s3api
[filter:tempauth]
use = egg:swift#tempauth
user_{KEY.replace(":", "_")} = {SECRET} .admin
[filter:bulk]
use = egg:swift#bulk
[filter:slo]
use = egg:swift#slo
"""


def write(name, text):
    path = os.path.join(FOLDER, name)
    with open(path, "w") as file:
        file.write(text)
    return path


def serve(name, config):
    """Each server gets a port that was free."""
    sock = eventlet.listen(("127.0.0.1", 0))
    app = loadapp(write(f"{name}.conf", DEFAULTS + config), global_conf={"log_name": name})
    options = {"protocol": SwiftHttpProtocol, "capitalize_response_headers": False}
    return eventlet.spawn(wsgi.server, sock, app, utils.NullLogger(), **options), sock.getsockname()[1]


def write_ring(name, port):
    """One place for everything."""
    device = {"id": 0, "region": 1, "zone": 1, "ip": "127.0.0.1", "port": port, "device": "disk"}
    device.update(replication_ip="127.0.0.1", replication_port=port, weight=1.0, meta="")
    RingData([array("H", [0])], [device], 32).save(os.path.join(FOLDER, f"{name}.ring.gz"))


def end_with_input():
    sys.stdin.buffer.read()
    os._exit(0)


def main():
    os.makedirs(os.path.join(FOLDER, "devices", "disk"))
    write("swift.conf", "[swift-hash]\nswift_hash_path_suffix = tests\n")
    utils.set_swift_dir(FOLDER)
    for name in ("account", "container", "object"):
        app = f"[app:main]\nuse = egg:swift#{name}\n"
        write_ring(name, serve(name, app)[1])
    proxy, port = serve("proxy", PROXY)
    eventlet.patcher.original("threading").Thread(target=end_with_input, daemon=True).start()
    print(port, flush=True)
    proxy.wait()


main()
