/**
 * The part of the agent that listens: connections, frames, and the loop that waits for all of them. Nothing in it blocks.
 * See `frames.ts` for what is said on a connection.
 */
export const CONNECTIONS = String.raw`
use strict; use warnings; no warnings qw(exec once recursion);
use Socket; use Fcntl qw(:DEFAULT :mode); use POSIX ();
use Errno qw(EAGAIN EINTR EMFILE ENFILE EEXIST ENOENT ENOTDIR EACCES EPERM ELOOP ENOSPC EDQUOT EROFS);

$0 = 'sandbar-agent';
my $TOKEN = delete $ENV{SANDBAR_AGENT_TOKEN};
my $PORT = delete $ENV{SANDBAR_AGENT_PORT};
die "no token\n" unless length($TOKEN // '') >= 32;

my $FRAME = 65536;            # bytes of one frame's payload, going out
my $MAX_FRAME = 1 << 21;      # the same, coming in
my $OUT_LIMIT = 1 << 18;      # what is queued on one connection at most
my $WINDOW = 1 << 20;         # output that nobody has acknowledged, of one stream
my $MAX_STRANGERS = 256;      # connections that have not said the token, and how long they may take to
my $STRANGER_S = 10;
my $LAST_FD = 1000;           # select takes descriptors below 1024
my $REAP_S = 0.5;             # a signal may come just before select: what has ended is looked for all the same

our (%conns, %procs, %by_pid, %sandbox_env, $server, $R, $W, $is_stopping);
($R, $W) = ('', '');

my $TICKS = POSIX::sysconf(POSIX::_SC_CLK_TCK());
# Seconds, of a clock that nobody sets.
sub now { return (POSIX::times())[0] / $TICKS }

sub wants_read { my ($fh, $on) = @_; vec($R, fileno($fh), 1) = $on ? 1 : 0 }
sub wants_write { my ($fh, $on) = @_; vec($W, fileno($fh), 1) = $on ? 1 : 0 }
sub forget_fd { my ($fh) = @_; return unless defined fileno($fh); wants_read($fh, 0); wants_write($fh, 0); close $fh }

# On both of IP's versions where there are two: nobody else is to have the port.
sub listen_on {
  my $is_bound = socket($server, Socket::AF_INET6(), SOCK_STREAM, 0)
    && setsockopt($server, Socket::IPPROTO_IPV6(), Socket::IPV6_V6ONLY(), pack 'i', 0)
    && setsockopt($server, SOL_SOCKET, SO_REUSEADDR, 1)
    && bind($server, Socket::pack_sockaddr_in6($PORT, Socket::IN6ADDR_ANY()));
  if (!$is_bound) {
    socket($server, PF_INET, SOCK_STREAM, 0) or die "socket: $!\n";
    setsockopt($server, SOL_SOCKET, SO_REUSEADDR, 1);
    bind($server, sockaddr_in($PORT, INADDR_ANY)) or die "port $PORT: $!\n";
  }
  listen($server, 512) or die "listen: $!\n";
  nonblocking($server);
  wants_read($server, 1);
}

sub nonblocking { my ($fh) = @_; fcntl($fh, F_SETFL, fcntl($fh, F_GETFL, 0) | O_NONBLOCK) }
sub blocking { my ($fh) = @_; fcntl($fh, F_SETFL, fcntl($fh, F_GETFL, 0) & ~O_NONBLOCK) }

sub strangers { my @oldest_first = sort { $a->{since} <=> $b->{since} } grep { !$_->{known} } values %conns; return @oldest_first }

sub welcome {
  while (accept(my $fh, $server)) {
    make_room() if strangers() >= $MAX_STRANGERS;
    if (fileno $fh > $LAST_FD) { close $fh; next }
    nonblocking($fh);
    setsockopt($fh, 6, 1, 1); # IPPROTO_TCP, TCP_NODELAY
    $conns{fileno $fh} = { fh => $fh, in => '', out => '', since => now() };
    wants_read($fh, 1);
  }
  return unless $!{EMFILE} || $!{ENFILE};
  my ($oldest) = strangers();
  drop($oldest) if $oldest;
  select(undef, undef, undef, 0.05);
}

# The oldest of those who have not said the token goes, but none that has said it by now.
sub make_room {
  for my $c (strangers()) { hear($c) unless $c->{gone} }
  my @strangers = strangers();
  drop($strangers[0]) if @strangers >= $MAX_STRANGERS;
}

sub drop {
  my ($c) = @_;
  return if $c->{gone}++;
  delete $conns{fileno $c->{fh}};
  forget_fd($c->{fh});
  $c->{proc}{conn} = undef if $c->{proc} && ($c->{proc}{conn} // 0) == $c;
}

sub say_to {
  my ($c, $type, $payload) = @_;
  return if $c->{gone};
  $c->{out} .= pack('a1 N', $type, length $payload) . $payload;
  wants_write($c->{fh}, 1);
}

sub flush_to {
  my ($c) = @_;
  while (length $c->{out}) {
    my $n = syswrite($c->{fh}, $c->{out});
    if (!defined $n) { return if $!{EAGAIN} || $!{EINTR}; return drop($c) }
    substr($c->{out}, 0, $n, '');
  }
  wants_write($c->{fh}, 0);
  return drop($c) if $c->{closing};
  feed($c->{proc}) if $c->{proc};
}

sub hear {
  my ($c) = @_;
  my $n = sysread($c->{fh}, $c->{in}, 1 << 17, length $c->{in});
  if (!defined $n) { return if $!{EAGAIN} || $!{EINTR}; return drop($c) }
  return drop($c) if $n == 0;
  while (!$c->{gone} && length $c->{in} >= 5) {
    my ($type, $length) = unpack 'a1 N', $c->{in};
    return drop($c) if $length > ($c->{known} ? $MAX_FRAME : 256);
    last if length $c->{in} < 5 + $length;
    my $payload = substr($c->{in}, 5, $length);
    substr($c->{in}, 0, 5 + $length, '');
    handle($c, $type, $payload);
  }
}

sub is_same { my ($a, $b) = @_; length $a == length $b && (($a ^ $b) =~ tr/\0//c) == 0 }

sub handle {
  my ($c, $type, $payload) = @_;
  if (!$c->{known}) {
    return drop($c) unless $type eq 'H' && is_same($payload, $TOKEN);
    $c->{known} = 1;
  } elsif ($c->{proc}) {
    to_process($c->{proc}, $type, $payload);
  } elsif ($type eq 'B') {
    my ($workdir, @env) = unpack '(N/a*)*', $payload;
    %sandbox_env = map { split /=/, $_, 2 } @env;
    in_child($c, $type, $workdir // '');
  } elsif ($type eq 'X') {
    start_process($c, unpack '(N/a*)*', $payload);
  } elsif ($type eq 'A') {
    my ($id, $stdout, $stderr) = unpack '(N/a*)*', $payload;
    return drop($c) unless defined $stderr;
    my $p = $procs{$id} or return refuse($c, 'process_not_found', '');
    join_process($c, $p, $stdout, $stderr);
  } elsif ($type =~ /^[RWTCQLNMVOGP]$/) {
    in_child($c, $type, unpack '(N/a*)*', $payload);
  } else {
    drop($c);
  }
}

# The last thing that is said on a connection.
sub refuse {
  my ($c, $code, $detail) = @_;
  say_to($c, 'f', pack '(N/a*)*', $code, $detail);
  $c->{closing} = 1;
}

sub make_workdir {
  my ($c, $workdir) = @_;
  my $why = length $workdir ? make_directories($workdir, 0755) : '';
  give_up('exec_failed', "workdir $workdir: $why") if $why;
  send_now($c, 'b', '');
}

# One operation in a process of its own: whatever it waits for, the agent does not.
sub in_child {
  my ($c, $type, @args) = @_;
  my $pid = fork;
  if (!defined $pid) { return refuse($c, 'exec_failed', "fork: $!") }
  if ($pid == 0) {
    $SIG{$_} = 'DEFAULT' for qw(CHLD TERM);
    hold_nothing_but($c);
    blocking($c->{fh});
    my %run = (B => \&make_workdir, R => \&read_file, W => \&write_file, T => \&try_port, C => \&count_connections,
      Q => \&stat_file, L => \&list_files, N => \&make_directory, M => \&move_file, V => \&remove_file,
      O => \&watch_files, G => \&read_archive, P => \&write_archive);
    my $done = eval { $run{$type}->($c, @args); 1 };
    fail_child($c, ref $@ ? @{$@} : ('internal', "$@")) unless $done;
    POSIX::_exit(0);
  }
  drop($c);
}

# The client may still be sending: what is closed before that is read takes the answer with it.
sub fail_child {
  my ($c, $code, $detail) = @_;
  eval { send_now($c, 'f', pack '(N/a*)*', $code, $detail) } or return;
  shutdown $c->{fh}, 1;
  alarm $STRANGER_S;
  while (sysread $c->{fh}, my $rest, 1 << 17) { }
}

# What others wait for the end of must not stay open here: the input of a process, the other connections.
sub hold_nothing_but {
  my ($c) = @_;
  close $server;
  for my $one (values %conns) { close $one->{fh} if $one != $c }
  for my $p (values %procs) {
    for my $fh (@$p{qw(in slave)}, map { $_->{fh} } @{$p->{streams}}) { close $fh if $fh && defined fileno $fh }
  }
}

sub try_port {
  my ($c, $port) = @_;
  alarm 2;
  local $SIG{ALRM} = sub { die "too slow\n" };
  socket(my $fh, PF_INET, SOCK_STREAM, 0) or give_up("internal", "socket: $!");
  my $is_open = eval { connect($fh, sockaddr_in($port, INADDR_LOOPBACK)) };
  send_now($c, 't', $is_open ? '1' : '0');
}

# How many connections each of these ports has here.
sub count_connections {
  my ($c, @ports) = @_;
  my %count;
  for my $path ('/proc/net/tcp', '/proc/net/tcp6') {
    open(my $fh, '<', $path) or next;
    while (<$fh>) { $count{hex $1}++ if /^\s*\d+: [0-9A-F]+:([0-9A-F]{4}) \S+ 01 / }
  }
  send_now($c, 'c', pack '(N/a*)*', map { $count{$_} // 0 } @ports);
}

# Whether the kernel, when it wants memory, takes others first: as far as it may be asked for that.
sub spare { my ($score) = @_; open(my $fh, '>', '/proc/self/oom_score_adj') or return; syswrite $fh, $score; close $fh }

sub serve {
  spare(-900);
  pipe(my $woken, my $wake) or die "pipe: $!\n";
  nonblocking($_) for $woken, $wake;
  $SIG{CHLD} = sub { syswrite $wake, 'c' };
  $SIG{TERM} = sub { $is_stopping = 1; syswrite $wake, 't' };
  $SIG{$_} = 'IGNORE' for qw(PIPE HUP INT);
  wants_read($woken, 1);
  listen_on();
  for (;;) {
    my $patience = next_deadline();
    my $n = select(my $r = $R, my $w = $W, undef, $patience);
    if ($n > 0) {
      if (vec($r, fileno $woken, 1)) { sysread $woken, my $signals, 4096; stop_all() if $signals =~ /t/ }
      welcome() if vec($r, fileno $server, 1);
      # Copies: whoever is heard may be the end of others.
      for my $p (my @procs = values %procs) { run_process($p, \$r, \$w) }
      for my $c (my @conns = values %conns) {
        hear($c) if !$c->{gone} && vec($r, fileno $c->{fh}, 1);
        flush_to($c) if !$c->{gone} && vec($w, fileno $c->{fh}, 1);
      }
    }
    reap();
    finish_late(now());
    for my $c (my @conns = values %conns) { drop($c) if !$c->{known} && now() - $c->{since} > $STRANGER_S }
    exit 0 if $is_stopping && !%by_pid;
  }
}
`;
