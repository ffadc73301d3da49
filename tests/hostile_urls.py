"""URLs that lead, or try to lead, where no stranger's URL may. `{port}` is one on which a test listens."""

# {port} is the port of a socket that listens on loopback, on every address family the machine has.
NOT_PUBLIC_LINES = """
http://127.0.0.1:{port}/
https://127.0.0.1:{port}/
http://127.0.0.1.:{port}/
http://127.1.2.3:{port}/
http://localhost:{port}/
http://LOCALHOST:{port}/
http://localhost.:{port}/
http://hook.localhost:{port}/
http://Hook.LocalHost.:{port}/
http://printer.local/
http://hook.default.svc.cluster.local/
http://metadata.google.internal/computeMetadata/v1/
http://hook.internal.:{port}/
http://[::1]:{port}/
http://[0:0:0:0:0:0:0:1]:{port}/
http://[::ffff:127.0.0.1]:{port}/
http://[::ffff:7f00:1]:{port}/
http://[0:0:0:0:0:ffff:127.0.0.1]:{port}/
http://[::ffff:0:127.0.0.1]:{port}/
http://[::127.0.0.1]:{port}/
http://[::]:{port}/
http://[64:ff9b::127.0.0.1]:{port}/
http://[64:ff9b::8.8.8.8]/
http://[64:ff9b:1::10.0.0.1]/
http://[2002:7f00:1::]:{port}/
http://[2002:0a00:0001::1]/
http://[2001:4:112::1]/
http://[2620:4f:8000::1]/
http://[::ffff:169.254.169.254]/
http://[::ffff:a9fe:a9fe]/
http://[2001:0:4136:e378:8000:63bf:3fff:fdd2]/
http://[2001:db8::1]/
http://[2001:2::1]/
http://[2001:20::1]/
http://[100::1]/
http://[3fff::1]/
http://[5f00::1]/
http://[fc00::1]/
http://[fd00:ec2::254]/
http://[fe80::1]/
http://[febf::1]/
http://[fec0::1]/
http://[ff02::1]/
http://[ff0e::1]/
http://[4000::1]/
http://0.0.0.0:{port}/
http://0.1.2.3/
http://10.0.0.1/
http://10.255.255.255/
http://100.64.0.1/
http://100.100.100.200/latest/meta-data/
http://168.63.129.16/
http://169.254.169.254/latest/meta-data/iam/
http://169.254.170.2/v2/credentials
http://172.16.0.1/
http://172.31.255.254/
http://192.0.0.1/
http://192.0.0.192/opc/v2/
http://192.0.2.1/
http://192.31.196.1/
http://192.52.193.1/
http://192.88.99.1/
http://192.168.1.1/
http://192.175.48.1/
http://198.18.0.1/
http://198.19.255.255/
http://198.51.100.1/
http://203.0.113.1/
http://224.0.0.1/
http://239.255.255.250/
http://240.0.0.1/
http://255.255.255.255/
"""
NOT_PUBLIC = NOT_PUBLIC_LINES.split()

NOT_A_URL = [
    # Other ways to write 127.0.0.1, which inet_aton takes.
    "http://2130706433:{port}/",
    "http://0x7f000001:{port}/",
    "http://0x7f.0.0.1:{port}/",
    "http://0X7F.0.0.1:{port}/",
    "http://017700000001:{port}/",
    "http://0177.0.0.1:{port}/",
    "http://0177.0.0.01:{port}/",
    "http://127.1:{port}/",
    "http://127.0.1:{port}/",
    "http://0:{port}/",
    "http://0x:{port}/",
    "http://00000000127.0.0.1:{port}/",
    "http://256.256.256.256/",
    "http://1.2.3.4.5/",
    "http://127.0.0.1%00.example.com:{port}/",
    # Other ways to write the host, which Unicode normalisation would unfold.
    "http://①②⑦.⓪.⓪.①:{port}/",
    "http://127。0。0。1:{port}/",
    "http://１２７.0.0.1:{port}/",
    "http://ⓛocalhost:{port}/",
    "http://bücher.example/",
    # User names, and what makes two parsers read two hosts.
    "http://user@127.0.0.1:{port}/",
    "http://user:password@example.com/",
    "http://example.com@127.0.0.1:{port}/",
    "http://127.0.0.1:{port}@example.com/",
    "http://example.com:80@127.0.0.1:{port}/",
    "http://example.com\\@127.0.0.1:{port}/",
    "http://127.0.0.1:{port}\\@example.com/",
    "http://example.com%40127.0.0.1:{port}/",
    "http://example.com#@127.0.0.1:{port}/ ",
    "http:///127.0.0.1:{port}/",
    "http:127.0.0.1:{port}/",
    "http:/127.0.0.1:{port}/",
    "//127.0.0.1:{port}/",
    "127.0.0.1:{port}/",
    "http://",
    "http://:{port}/",
    "http://?",
    # Control characters, line breaks and blanks: header injection and parsers that strip.
    "http://127.0.0.1:{port}/\r\nX-Injected: 1",
    "http://exa\tmple.com/",
    " http://127.0.0.1:{port}/",
    "http://127.0.0.1 :{port}/",
    "http://127.0.0.1:{port}/a b",
    "http://127.0.0.1:{port}/\x00",
    "http://127.0.0.1:{port}/\x7f",
    # IPv6 zones and broken brackets.
    "http://[fe80::1%eth0]:{port}/",
    "http://[fe80::1%25eth0]:{port}/",
    "http://[::1%lo]:{port}/",
    "http://[::1",
    "http://::1:{port}/",
    "http://[127.0.0.1]:{port}/",
    "http://[::1]x:{port}/",
    "http://[v1.fe80::1]:{port}/",
    "http://[:::1]:{port}/",
    "http://[::ffff:0177.0.0.1]:{port}/",
    # Ports.
    "http://example.com:0/",
    "http://example.com:65536/",
    "http://example.com:-1/",
    "http://example.com:+80/",
    "http://example.com:80:80/",
    "http://example.com:８０/",
    "http://example.com:0x50/",
    "http://example.com:22/",
    "http://example.com:25/",
    "http://example.com:6667/",
    *(f"http://example.com:{port}/" for port in (445, 1433, 2375, 2379, 3306, 3389, 5432, 5672, 6379, 9200, 10250)),
    "http://127.0.0.1:6379/",
    "http://[::1]:5432/",
    "https://hook.internal:11211/",
    "http://example.com:06379/",
    # Other schemes.
    "ftp://127.0.0.1:{port}/",
    "file:///etc/passwd",
    "gopher://127.0.0.1:{port}/_x",
    "javascript:alert(1)",
    "unix:///var/run/docker.sock",
    "HTTP+UNIX://%2Fvar%2Frun%2Fdocker.sock/",
    "httpss://example.com/",
    "",
    # Names.
    "http://.example.com/",
    "http://example..com/",
    "http://-example.com/",
    "http://*.example.com/",
    f"http://{'a' * 64}.example.com/",
    f"http://{'a.' * 127}example.com/",
    f"http://example.com/{'a' * 2048}",
]
