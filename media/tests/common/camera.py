"""A camera for tests: GStreamer's RTSP server on this machine. The first line that it prints is its port.

Each argument is /PATH=PIPELINE, in the words of gst-rtsp-server's factories. `--port N` asks for a port, `--user U:P`
for credentials in plain text, `--digest U:P` for a hash of them.

`--twin W,H,w,h,fps` adds /main and /sub: one moving picture, coded at two sizes, as a camera's two streams are. Both
carry the times at which it was taken, so that their reports name the same time of day for the same picture.
"""

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtsp, GstRtspServer  # noqa: E402


def serve(path, launch, configure=None):
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(launch)
    factory.set_shared(True)
    if configure:
        factory.connect("media-configure", configure)
    if permissions:
        factory.set_permissions(permissions)
    mounts.add_factory(path, factory)


def twin(width, height, small_width, small_height, fps):
    caps = "video/x-h264,stream-format=byte-stream,alignment=au"

    def branch(name, kbps):
        coder = f"x264enc tune=zerolatency speed-preset=ultrafast key-int-max={fps} bitrate={kbps}"
        return f" ! {coder} ! h264parse config-interval=-1 ! {caps} ! appsink name={name} emit-signals=true sync=false"

    source = Gst.parse_launch(
        "videotestsrc is-live=true pattern=smpte horizontal-speed=2"
        f" ! video/x-raw,format=I420,width={width},height={height},framerate={fps}/1 ! tee name=t"
        f" t. ! queue{branch('main', 8000)}"
        f" t. ! queue ! videoscale ! video/x-raw,width={small_width},height={small_height}{branch('sub', 300)}"
    )
    clock = Gst.SystemClock.obtain()
    source.use_clock(clock)
    for name in ("main", "sub"):
        viewers = []

        def pull(sink, viewers=viewers):
            sample = sink.emit("pull-sample")
            buffer = sample.get_buffer()
            # x264enc counts from a thousand hours on; the segment says so.
            taken = source.get_base_time() + sample.get_segment().to_running_time(Gst.Format.TIME, buffer.pts)
            for appsrc, pipeline in list(viewers):
                # The same instant, counted from the start of the pipeline that sends it.
                since = taken - pipeline.get_base_time()
                if pipeline.get_base_time() > 0 and since >= 0:
                    copy = buffer.copy()
                    copy.pts = copy.dts = since
                    appsrc.emit("push-buffer", copy)
            return Gst.FlowReturn.OK

        def configure(_, media, viewers=viewers):
            bin_ = media.get_element()
            pipeline = bin_.get_parent()
            pipeline.use_clock(clock)
            viewer = (bin_.get_by_name("source"), pipeline)
            viewers.append(viewer)
            media.connect("unprepared", lambda _: viewers.remove(viewer))

        source.get_by_name(name).connect("new-sample", pull)
        appsrc = f"appsrc name=source is-live=true format=time caps={caps}"
        serve(f"/{name}", f"( {appsrc} ! h264parse ! rtph264pay name=pay0 pt=96 config-interval=-1 )", configure)
    source.set_state(Gst.State.PLAYING)
    return source


Gst.init(None)
server = GstRtspServer.RTSPServer()
server.set_address("127.0.0.1")
server.set_service("0")
mounts = server.get_mount_points()
permissions, running = None, []
arguments = iter(sys.argv[1:])
for argument in arguments:
    if argument == "--port":
        server.set_service(next(arguments))
    elif argument in ("--user", "--digest"):
        user, password = next(arguments).split(":")
        auth = GstRtspServer.RTSPAuth()
        token = GstRtspServer.RTSPToken()
        token.set_string("media.factory.role", "user")
        if argument == "--user":
            auth.add_basic(GstRtspServer.RTSPAuth.make_basic(user, password), token)
        else:
            auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
            auth.add_digest(user, password, token)
        server.set_auth(auth)
        permissions = GstRtspServer.RTSPPermissions()
        for permission in ("media.factory.access", "media.factory.construct"):
            permissions.add_permission_for_role("user", permission, True)
    elif argument == "--twin":
        running.append(twin(*map(int, next(arguments).split(","))))
    else:
        serve(*argument.split("=", 1))
if server.attach(None) == 0:
    sys.exit("cannot listen")
print(server.get_bound_port(), flush=True)
GLib.MainLoop().run()
