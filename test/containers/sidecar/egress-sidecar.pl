# Stands in for Cloudflare's networking sidecar, which the local runtime puts beside each container. The container
# shares this one's network namespace. Served on --http-ingress-address:
#   CONNECT host:port   a tunnel to that address as the container sees it; 400 when nothing accepts there
#   PUT /egress         {"internet": {"enabled": false}} cuts the way out, true restores it, without it all stays
#   GET /ca             200; there is no authority, because outgoing TLS is never intercepted
# One process, one select loop; each direction of a tunnel holds at most one chunk, so a slow reader slows its writer.
use strict;
use warnings;
use Errno qw(EAGAIN EINPROGRESS EINTR);
use Fcntl qw(F_GETFL F_SETFL O_NONBLOCK);
use Socket qw(:DEFAULT IPPROTO_TCP TCP_NODELAY);

use constant CHUNK    => 256 * 1024;
use constant MAX_HEAD => 64 * 1024;

$SIG{PIPE} = 'IGNORE';
$SIG{TERM} = $SIG{INT} = sub { exit 0 };    # the first process of a container ignores them otherwise

my ($address) = join(' ', @ARGV) =~ /--http-ingress-address[ =](\S+)/;
my ($host, $port) = ($address // '0.0.0.0:39001') =~ /^(.*):(\d+)$/ or die "no port in $address";

# ---- sockets and the loop: an end is { fd, socket, onRead, onWrite }, watched while it wants to

my (%ends, $wantsRead, $wantsWrite);
$wantsRead = $wantsWrite = '';

sub add_end {
    my ($socket, %more) = @_;
    my $flags = fcntl($socket, F_GETFL, 0) or die "fcntl: $!";
    fcntl($socket, F_SETFL, $flags | O_NONBLOCK) or die "fcntl: $!";
    my $end = { socket => $socket, fd => fileno($socket), %more };
    return $ends{ $end->{fd} } = $end;
}

sub want { my ($end, $reads, $writes) = @_; vec($wantsRead, $end->{fd}, 1) = $reads; vec($wantsWrite, $end->{fd}, 1) = $writes }

# Closes it; as a reset where its peer's connection broke, so that a broken stream never looks like a whole one.
sub close_end {
    my ($end, $isBroken) = @_;
    return unless $ends{ $end->{fd} } && $ends{ $end->{fd} } == $end;
    want($end, 0, 0);
    delete $ends{ $end->{fd} };
    setsockopt($end->{socket}, SOL_SOCKET, SO_LINGER, pack('ii', 1, 0)) if $isBroken;
    close $end->{socket};
    delete @$end{qw(onRead onWrite tunnel)};
}

sub is_retry { return $! == EAGAIN || $! == EINTR }

# The numbers of the bits that are set.
sub bits_of {
    my $bits = unpack('b*', $_[0]);
    my @set;
    for (my $at = index($bits, '1'); $at >= 0; $at = index($bits, '1', $at + 1)) { push @set, $at }
    return @set;
}

sub loop {
    while (1) {
        my ($readable, $writable) = ($wantsRead, $wantsWrite);
        my $count = select($readable, $writable, undef, undef);
        next if $count <= 0;
        for my $fd (bits_of($writable)) { my $end = $ends{$fd}; $end->{onWrite}->($end) if $end && $end->{onWrite} }
        for my $fd (bits_of($readable)) { my $end = $ends{$fd}; $end->{onRead}->($end)  if $end && $end->{onRead} }
    }
}

# ---- requests

sub accept_all {
    my ($listener) = @_;
    while (accept(my $socket, $listener->{socket})) {
        setsockopt($socket, IPPROTO_TCP, TCP_NODELAY, 1);
        my $client = add_end($socket, input => '', onRead => \&read_request);
        want($client, 1, 0);
    }
}

sub read_request {
    my ($client) = @_;
    my $got = sysread($client->{socket}, $client->{input}, CHUNK, length $client->{input});
    return if !defined $got && is_retry();
    return close_end($client) unless $got;
    my ($head, $body) = $client->{input} =~ /^(.*?\r\n)\r\n(.*)$/s
        or return length $client->{input} > MAX_HEAD ? answer($client, '431 Request Header Fields Too Large') : ();
    my ($method, $target) = split ' ', $head;
    return dial($client, $target, $body) if $method eq 'CONNECT';
    my ($size) = $head =~ /\r\ncontent-length:\s*(\d+)/i;
    return if length $body < ($size // 0);
    return answer($client, '200 OK') if $method eq 'GET' && $target =~ m{/ca$};
    return answer($client, '404 Not Found') unless $method eq 'PUT' && $target =~ m{/egress$};
    my ($isEnabled) = $body =~ /"internet"\s*:\s*\{\s*"enabled"\s*:\s*(true|false)/;
    eval { set_internet($isEnabled eq 'true') if defined $isEnabled; 1 }
        or return answer($client, '500 Internal Server Error', $@);
    answer($client, '200 OK');
}

# Short enough for any socket's buffer.
sub answer {
    my ($client, $status, $text) = @_;
    $text //= '';
    syswrite($client->{socket}, "HTTP/1.1 $status\r\nContent-Length: " . length($text) . "\r\nConnection: close\r\n\r\n$text");
    close_end($client);
}

# ---- tunnels

sub dial {
    my ($client, $target, $early) = @_;
    my ($to, $toPort) = $target =~ /^(.+):(\d+)$/ or return answer($client, '400 Bad Request', "no port in $target");
    my $ip = inet_aton($to) or return answer($client, '400 Bad Request', "no address for $to");
    socket(my $socket, PF_INET, SOCK_STREAM, 0) or return answer($client, '503 Service Unavailable', "$!");
    setsockopt($socket, IPPROTO_TCP, TCP_NODELAY, 1);
    my $target_end = add_end($socket);
    want($client, 0, 0);
    my $done = sub {
        my ($error) = @_;
        if ($error) { close_end($target_end); local $! = $error; return answer($client, '400 Bad Request', "$!") }
        syswrite($client->{socket}, "HTTP/1.1 200 OK\r\n\r\n");
        tunnel($client, $target_end, $early);
    };
    return $done->(0) if connect($socket, pack_sockaddr_in($toPort, $ip));
    return $done->($! + 0) unless $! == EINPROGRESS;
    $target_end->{onWrite} = sub { $done->(unpack 'i', getsockopt($socket, SOL_SOCKET, SO_ERROR)) };
    want($target_end, 0, 1);
}

# Each end keeps what waits to be written to it, and whether more will come (`isEnding`) or can be written (`isEnded`).
sub tunnel {
    my ($client, $target, $early) = @_;
    for ([$client, $target, ''], [$target, $client, $early]) {
        my ($end, $peer, $waiting) = @$_;
        delete $end->{input};
        @$end{qw(tunnel waiting isEnding isEnded)} = ($peer, $waiting, 0, 0);
        $end->{onRead}  = sub { pull($_[0], $_[0]{tunnel}) };
        $end->{onWrite} = sub { flush($_[0], $_[0]{tunnel}) };
    }
    flush($target, $client);
    watch($client, $target);
}

sub watch {
    for my $end (@_) {
        my $peer = $end->{tunnel} or return;    # closed
        want($end, !$peer->{isEnding} && $peer->{waiting} eq '', $end->{waiting} ne '' ? 1 : 0);
    }
    close_tunnel(@_) if $_[0]{isEnded} && $_[1]{isEnded};
}

sub close_tunnel { my ($end, $peer, $isBroken) = @_; close_end($_, $isBroken) for $end, $peer }

# Reads one chunk from $end and passes it on.
sub pull {
    my ($end, $peer) = @_;
    my $got = sysread($end->{socket}, $peer->{waiting}, CHUNK);
    return if !defined $got && is_retry();
    return close_tunnel($end, $peer, 1) unless defined $got;
    if ($got == 0) { $peer->{waiting} = ''; $peer->{isEnding} = 1 }
    flush($peer, $end);
}

# Writes what waits for $end. When it takes no more, its peer is read no more, but still gets what comes from it.
sub flush {
    my ($end, $peer) = @_;
    if ($end->{waiting} ne '') {
        my $put = syswrite($end->{socket}, $end->{waiting});
        if    (defined $put)  { substr($end->{waiting}, 0, $put, '') }
        elsif (!is_retry())   { @$end{qw(waiting isEnding isEnded)} = ('', 1, 1); shutdown($peer->{socket}, 0) }
    }
    if ($end->{isEnding} && !$end->{isEnded} && $end->{waiting} eq '') { shutdown($end->{socket}, 1); $end->{isEnded} = 1 }
    watch($end, $peer);
}

# ---- the way out
#
# Two routing rules cut it: answers from the ingress port are routed as always, all else is unreachable. Local
# addresses are decided before any of them. Said to the kernel by rtnetlink, because `ip` is not in the image.

use constant { AF_NETLINK => 16, NETLINK_ROUTE => 0 };
use constant { NLM_F_REQUEST => 1, NLM_F_ACK => 4, NLM_F_EXCL => 0x200, NLM_F_CREATE => 0x400, NLMSG_ERROR => 2 };
use constant { RTM_NEWRULE => 32, RTM_DELRULE => 33, FR_ACT_TO_TBL => 1, FR_ACT_UNREACHABLE => 7, RT_TABLE_MAIN => 254 };
use constant { FRA_PRIORITY => 6, FRA_IP_PROTO => 22, FRA_SPORT_RANGE => 23 };

my $hasInternet = 1;

sub set_internet {
    my ($isEnabled) = @_;
    return if $isEnabled == $hasInternet;
    my @families = grep { $_ == AF_INET || -e '/proc/net/if_inet6' } AF_INET, AF_INET6;
    for my $family (@families) {
        my $answers = rule($family, RT_TABLE_MAIN, FR_ACT_TO_TBL, 1000,
            attribute(FRA_IP_PROTO, pack 'C', IPPROTO_TCP) . attribute(FRA_SPORT_RANGE, pack 'SS', $port, $port));
        my $rest = rule($family, 0, FR_ACT_UNREACHABLE, 1001, '');
        change_rule($isEnabled, $_) for $isEnabled ? ($rest, $answers) : ($answers, $rest);
    }
    $hasInternet = $isEnabled;
}

sub attribute { my ($type, $value) = @_; my $size = 4 + length $value; return pack("SSa*", $size, $type, $value) . "\0" x (-$size % 4) }

sub rule {
    my ($family, $table, $action, $priority, $attributes) = @_;
    return pack('CCCCCCCCL', $family, 0, 0, 0, $table, 0, 0, $action, 0) . attribute(FRA_PRIORITY, pack 'L', $priority) . $attributes;
}

sub change_rule {
    my ($isRemoval, $rule) = @_;
    socket(my $kernel, AF_NETLINK, SOCK_RAW, NETLINK_ROUTE) or die "netlink: $!";
    my $flags = NLM_F_REQUEST | NLM_F_ACK | ($isRemoval ? 0 : NLM_F_CREATE | NLM_F_EXCL);
    my $type = $isRemoval ? RTM_DELRULE : RTM_NEWRULE;
    send($kernel, pack('LSSLL', 16 + length $rule, $type, $flags, 1, 0) . $rule, 0) or die "netlink: $!";
    defined recv($kernel, my $reply, 8192, 0) or die "netlink: $!";
    my (undef, $kind, undef, undef, undef, $error) = unpack 'LSSLLl', $reply;
    die "netlink: unexpected answer $kind" unless $kind == NLMSG_ERROR;
    if ($error) { local $! = -$error; die "the kernel refuses the rule: $!" }
}

# ----

socket(my $listening, PF_INET, SOCK_STREAM, 0) or die "socket: $!";
setsockopt($listening, SOL_SOCKET, SO_REUSEADDR, 1);
bind($listening, pack_sockaddr_in($port, inet_aton($host))) or die "bind $host:$port: $!";
listen($listening, 1024) or die "listen: $!";
want(add_end($listening, onRead => \&accept_all), 1, 0);
loop();
