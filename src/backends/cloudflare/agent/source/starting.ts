/** The part of the agent that starts processes: their pipes or terminal, their user, their program. */
export const STARTING = String.raw`
my $MAX_PROCESSES = 220;      # that run at once: select takes 1024 descriptors
my ($TIOCSPTLCK, $TIOCGPTN, $TIOCSCTTY, $TIOCSWINSZ) = (0x40045431, 0x80045430, 0x540E, 0x5414);

sub start_process {
  my ($c, $id, $cwd, $user, $stdin, $is_open, $stdout, $stderr, $rows, $cols, $note, $kill_after, $argc, @rest) = @_;
  return drop($c) unless $argc && $argc <= @rest;
  return join_process($c, $procs{$id}, 0, 0) if $procs{$id};
  return refuse($c, 'exec_failed', "More than $MAX_PROCESSES processes run in the sandbox.") if keys %by_pid >= $MAX_PROCESSES;
  my @argv = splice @rest, 0, $argc;
  my %env = (%sandbox_env, map { split /=/, $_, 2 } @rest);
  my $who = length $user ? eval { user_of($user) } : undef;
  return refuse($c, 'exec_failed', $@ =~ s/\n$//r) if length $user && !$who;
  my $p = { id => $id, input => $stdin, taken => 0, is_input_over => !$is_open, streams => [], oom => oom_kills(), note => $note, why => '' };
  my ($said, $say, $pid, %child);
  my $is_begun = eval {
    %child = $rows ? open_terminal($p, $rows, $cols, $who) : open_pipes($p, $is_open || length $stdin, $stdout, $stderr);
    pipe($said, $say) or die "pipe: $!\n";
    die "Too many files are open in the sandbox's agent.\n" if fileno $say > $LAST_FD;
    defined($pid = fork) or die "fork: $!\n";
    1;
  };
  if (!$is_begun) {
    refuse($c, 'exec_failed', $@ =~ s/\n$//r);
    for my $fh (@$p{qw(in slave)}, map { $_->{fh} } @{$p->{streams}}) { forget_fd($fh) if $fh }
    return;
  }
  if ($pid == 0) {
    my ($code, $why) = become(\%child, $cwd, $who, \%env, \@argv);
    syswrite $say, pack('C a*', $code, $why);
    POSIX::_exit(1);
  }
  close $say;
  close $_ for grep { $_ && $_ != ($p->{slave} // 0) } @child{qw(in out err)};
  ($p->{pid}, $p->{said}, $procs{$id}, $by_pid{$pid}) = ($pid, $said, $p, $p);
  $p->{kill_at} = now() + $kill_after if $kill_after;
  nonblocking($said);
  wants_read($said, 1);
  join_process($c, $p, 0, 0);
}

# It closes when the program runs; what comes before is why it does not.
sub hear_child {
  my ($p) = @_;
  my $n = sysread($p->{said}, $p->{why}, 4096, length $p->{why});
  return if $n || !defined $n && ($!{EAGAIN} || $!{EINTR});
  forget_fd(delete $p->{said});
  if (length $p->{why}) {
    my ($code, $why) = unpack 'C a*', $p->{why};
    $p->{failure} = $why;
    $p->{code} = $code << 8;
    my $to = $p->{master} ? 0 : 1;
    $p->{streams}[$to]{buffer} .= $p->{master} ? "$why\r\n" : "$why\n" unless $p->{streams}[$to]{is_ignored};
  }
  greet($p);
  give_input($p);
}

# The child, up to the program. Answers only when that does not start.
sub become {
  my ($child, $cwd, $who, $env, $argv) = @_;
  $SIG{$_} = 'DEFAULT' for qw(CHLD TERM PIPE HUP INT);
  spare(0);
  POSIX::setsid();
  ioctl($child->{in}, $TIOCSCTTY, my $is_stolen = 0) if $child->{is_terminal};
  my @fds = map { fileno $child->{$_} } qw(in out err);
  POSIX::dup2($fds[$_], $_) for 0 .. 2;
  @ENV{keys %$env} = values %$env;
  $ENV{TERM} //= 'xterm-256color' if $child->{is_terminal};
  if ($who) {
    $ENV{HOME} = $who->{home} unless exists $env->{HOME};
    $) = "$who->{gid} @{$who->{groups}}";
    POSIX::setgid($who->{gid}) && POSIX::setuid($who->{uid}) or return (126, "user: " . lc $!);
  }
  chdir $cwd or return (126, "$cwd: " . lc $!) if length $cwd;
  my $program = $argv->[0];
  # No shell runs what says of no interpreter: exec by name would have one do it.
  return (126, "$program: exec format error") if is_of_no_format($program);
  exec { $program } @$argv;
  my $errno = $! + 0;
  my $is_absent = $errno == ENOENT || $errno == ENOTDIR;
  # A directory of PATH that the user may not look into hides nothing.
  $is_absent ||= $errno == EACCES && $program !~ m{/} && !grep { -e $_ } paths_of($program);
  $! = $errno;
  my $why = $is_absent && $program !~ m{/} ? 'not found' : lc "$!";
  return ($is_absent ? 127 : 126, "$program: $why");
}

# Where a program may lie.
sub paths_of {
  my ($program) = @_;
  return $program if $program =~ m{/};
  return map { (length ? $_ : '.') . "/$program" } split /:/, $ENV{PATH} // '/usr/bin:/bin', -1;
}

sub is_of_no_format {
  my ($program) = @_;
  my ($path) = grep { -f $_ && -x _ } paths_of($program);
  return 0 unless defined $path && sysopen(my $fh, $path, O_RDONLY | O_NONBLOCK);
  my $magic = '';
  return defined sysread($fh, $magic, 4) && $magic !~ /^(?:\x7fELF|#!)/;
}

sub user_of {
  my ($user, $group) = split /:/, $_[0], 2;
  my @entry = $user =~ /^\d+$/ ? getpwuid($user) : getpwnam($user);
  die "There is no user $user in the sandbox.\n" unless @entry || $user =~ /^\d+$/;
  my ($name, $uid, $gid, $home) = @entry ? @entry[0, 2, 3, 7] : ('', $user, 0, '/');
  my @groups;
  if (defined $group) {
    $gid = $group =~ /^\d+$/ ? $group : getgrnam($group);
    die "There is no group $group in the sandbox.\n" unless defined $gid;
  } elsif (length $name) {
    while (my @one = getgrent) { push @groups, $one[2] if grep { $_ eq $name } split / /, $one[3] }
    endgrent;
  }
  return { uid => $uid + 0, gid => $gid + 0, home => $home, groups => [@groups ? @groups : $gid] };
}

sub stream { my ($fh) = @_; my $s = { fh => $fh, buffer => '', base => 0, sent => 0 }; if ($fh) { nonblocking($fh); wants_read($fh, 1) } else { $s->{is_over} = 1 } return $s }

sub open_pipes {
  my ($p, $stdin, @modes) = @_;
  my %child;
  if ($stdin) { pipe($child{in}, $p->{in}) or die "pipe: $!\n"; nonblocking($p->{in}) }
  else { open($child{in}, '<', '/dev/null') or die "/dev/null: $!\n" }
  for my $name (qw(out err)) {
    if (shift @modes) { pipe(my $from, $child{$name}) or die "pipe: $!\n"; push @{$p->{streams}}, stream($from) }
    else { open($child{$name}, '>', '/dev/null') or die "/dev/null: $!\n"; push @{$p->{streams}}, { %{stream(undef)}, is_ignored => 1 } }
  }
  return %child;
}

sub open_terminal {
  my ($p, $rows, $cols, $who) = @_;
  sysopen(my $master, '/dev/ptmx', O_RDWR | O_NOCTTY | O_NONBLOCK) or die "/dev/ptmx: $!\n";
  my ($unlocked, $number) = (pack('i', 0), pack('i', 0));
  ioctl($master, $TIOCSPTLCK, $unlocked) or die "terminal: $!\n";
  ioctl($master, $TIOCGPTN, $number) or die "terminal: $!\n";
  my $path = '/dev/pts/' . unpack 'i', $number;
  sysopen(my $slave, $path, O_RDWR | O_NOCTTY) or die "$path: $!\n";
  chown $who->{uid}, -1, $path if $who;
  open($p->{in}, '+<&', $master) or die "terminal: $!\n";
  # Held open, or a program that closes its own end for a moment would be hung up on.
  @$p{qw(slave master)} = ($slave, $master);
  resize($p, $rows, $cols);
  push @{$p->{streams}}, stream($master), stream(undef);
  return (in => $slave, out => $slave, err => $slave, is_terminal => 1);
}

sub resize { my ($p, $rows, $cols) = @_; my $size = pack 'S4', $rows, $cols, 0, 0; ioctl($p->{master}, $TIOCSWINSZ, $size) if $p->{master} }
`;
