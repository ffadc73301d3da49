"""What SeaweedFS's servers answer to where nobody stops them: the attacker's list. `{bucket}` is filled in."""

from __future__ import annotations

METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE")

MASTER = (
    "/",
    "/ui/index.html",
    "/dir/assign",
    "/dir/assign?collection={bucket}&count=5",
    "/dir/lookup?volumeId=1",
    "/dir/lookup?fileId=1,01637037d6",
    "/dir/status",
    "/col/delete?collection={bucket}",
    "/vol/grow?count=3&collection={bucket}",
    "/vol/vacuum?garbageThreshold=0.0001",
    "/vol/status",
    "/vol/list",
    "/submit",
    "/cluster/status",
    "/cluster/healthz",
    "/cluster/raft/ps",
    "/cluster/leader",
    "/stats/counter",
    "/stats/memory",
    "/stats/health",
    "/seaweedfsstatic/bootstrap/3.3.1/css/bootstrap.min.css",
    "/1,01637037d6",
)
VOLUME = (
    "/status",
    "/stats/disk",
    "/ui/",
    "/admin/assign_volume?volume=99&collection={bucket}",
    "/admin/vacuum/check?volume=1",
    "/admin/vacuum/compact?volume=1",
    "/admin/vacuum/commit?volume=1",
    "/admin/delete_collection?collection={bucket}",
    "/admin/volume/delete?volume=1",
    "/admin/volume/mount?volume=1",
    "/admin/freeze_volume?volume=1",
    "/admin/sync/status?volume=1",
    "/admin/setting",
    "/delete?fid=1,01637037d6",
    "/1/01637037d6",
    "/1/01637037d6/picture.png",
)
FILER = (
    "/buckets/",
    "/buckets/{bucket}/",
    "/buckets/{bucket}/?recursive=true&ignoreRecursiveError=true",
    "/buckets/{bucket}/secret-place/picture.png",
    "/buckets/{bucket}/secret-place/picture.png?mv.from=/etc/iam/identity.json",
    "/etc/",
    "/etc/iam/identity.json",
    "/etc/seaweedfs/filer.conf",
    "/topics/.system/log/",
    "/.tus/",
    "/?pretty=y",
    "/healthz",
)
S3 = (
    "/{bucket}",
    "/{bucket}/",
    "/{bucket}?list-type=2",
    "/{bucket}?policy",
    "/{bucket}?delete",
    "/{bucket}/secret-place/picture.png",
    "/{bucket}/secret-place/picture.png?uploads",
    "/{bucket}/secret-place/picture.png?acl",
    "/?Action=ListUsers",
    "/?Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleArn=x&RoleSessionName=x&WebIdentityToken=x",
)
EVERYWHERE = (
    "/metrics",
    "/debug/pprof/",
    "/debug/pprof/heap",
    "/debug/pprof/goroutine?debug=2",
    "/debug/pprof/cmdline",
    "/debug/vars",
    "/debug/requests",
    "/config",
    "/login",
    "/api/config",
    "/favicon.ico",
)
PATHS = (*MASTER, *VOLUME, *FILER, *S3, *EVERYWHERE)
