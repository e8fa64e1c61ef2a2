/** The part of the agent that runs processes: their output and input, and their end. */
export const PROCESSES = String.raw`
my $KEPT_S = 3600;            # how long the end of a process is kept for its object
my $DRAIN_S = 0.25;           # how long the last output of a process is waited for, where others hold its pipes open
my $TERMINAL_BUFFER = 1 << 17; # what a terminal may hold at most
my $FIONREAD = 0x541B;

# A client listens from these offsets on. One at a time: the last one counts.
sub join_process {
  my ($c, $p, @offsets) = @_;
  drop($p->{conn}) if $p->{conn};
  ($p->{conn}, $c->{proc}) = ($c, $p);
  for my $n (0, 1) {
    my $s = $p->{streams}[$n];
    $s->{sent} = $offsets[$n] < $s->{base} ? $s->{base} : $offsets[$n];
  }
  $p->{has_told_end} = 0;
  greet($p) unless $p->{said};
}

# What the object may have lost is said again: how much input was taken, and its own note.
sub greet {
  my ($p) = @_;
  my $c = $p->{conn} or return;
  my $is_open = $p->{in} && !$p->{is_input_over} ? 1 : 0;
  my @words = ($p->{failure} // '', $p->{note});
  say_to($c, 'r', pack 'N Q> C (N/a*)2', $p->{pid}, $p->{taken} + length $p->{input}, $is_open, @words);
  tell_input($p);
  feed($p);
}

# Sends what there is, as far as the connection takes it, and the end after all of it.
sub feed {
  my ($p) = @_;
  my $c = $p->{conn} or return;
  return if $p->{said};
  my $is_all = 1;
  for my $n (0, 1) {
    my $s = $p->{streams}[$n];
    while (length $c->{out} < $OUT_LIMIT) {
      my $bytes = substr($s->{buffer}, $s->{sent} - $s->{base}, $FRAME);
      last unless length $bytes;
      say_to($c, $n ? 'e' : 'o', pack('Q>', $s->{sent}) . $bytes);
      $s->{sent} += length $bytes;
    }
    $is_all = 0 if !$s->{is_over} || $s->{sent} < $s->{base} + length $s->{buffer};
  }
  return unless $is_all && defined $p->{code} && !$p->{has_told_end}++;
  say_to($c, 'x', pack 'N C C', $p->{code}, $p->{was_oom} ? 1 : 0, defined $p->{failure} ? 1 : 0);
}

sub to_process {
  my ($p, $type, $payload) = @_;
  if ($type eq 'I') {
    if ($p->{in}) { $p->{input} .= $payload; give_input($p) } else { tell_input($p) }
  } elsif ($type eq 'E') {
    return if $p->{is_input_over}++;
    $p->{input} .= "\x04" if $p->{master} && $p->{in};
    give_input($p);
  } elsif ($type eq 'S') {
    kill unpack('C', $payload), -$p->{pid} if $by_pid{$p->{pid}};
  } elsif ($type eq 'Z') {
    resize($p, unpack 'n n', $payload);
  } elsif ($type eq 'a') {
    my @taken = unpack 'Q> Q>', $payload;
    for my $n (0, 1) {
      my $s = $p->{streams}[$n];
      my $gone = $taken[$n] - $s->{base};
      next if $gone <= 0 || $taken[$n] > $s->{sent};
      substr($s->{buffer}, 0, $gone, '');
      $s->{base} = $taken[$n];
      wants_read($s->{fh}, 1) if !$s->{is_over};
    }
  } elsif ($type eq 'D') {
    return unless $p->{has_told_end};
    delete $procs{$p->{id}};
    drop($p->{conn});
  }
}

sub tell_input { my ($p) = @_; say_to($p->{conn}, 'i', pack 'Q> C', $p->{taken}, $p->{in} ? 1 : 0) if $p->{conn} && !$p->{said} }

sub give_input {
  my ($p) = @_;
  my $before = $p->{taken};
  while ($p->{in} && length $p->{input}) {
    my $n = syswrite($p->{in}, $p->{input});
    if (!defined $n) { last if $!{EAGAIN} || $!{EINTR}; close_input($p); last }
    substr($p->{input}, 0, $n, '');
    $p->{taken} += $n;
  }
  return unless $p->{in};
  wants_write($p->{in}, length $p->{input} ? 1 : 0);
  close_input($p) if !length $p->{input} && $p->{is_input_over} && !$p->{master};
  tell_input($p) if $p->{taken} > $before;
}

sub close_input {
  my ($p) = @_;
  return unless $p->{in};
  forget_fd($p->{in});
  $p->{in} = undef;
  $p->{input} = '';
  tell_input($p);
}

sub run_process {
  my ($p, $r, $w) = @_;
  hear_child($p) if $p->{said} && vec($$r, fileno $p->{said}, 1);
  give_input($p) if $p->{in} && vec($$w, fileno $p->{in}, 1);
  my $has_more = 0;
  for my $s (@{$p->{streams}}) {
    next if $s->{is_over} || !vec($$r, fileno $s->{fh}, 1);
    take_output($s);
    $has_more = 1;
  }
  feed($p) if $has_more;
}

# One read. False when there is nothing now.
sub take_output {
  my ($s) = @_;
  my $room = $WINDOW - length $s->{buffer};
  if ($room <= 0) { wants_read($s->{fh}, 0); return 0 }
  my $n = sysread($s->{fh}, $s->{buffer}, $room < $FRAME ? $room : $FRAME, length $s->{buffer});
  return 1 if $n;
  return 0 if !defined $n && ($!{EAGAIN} || $!{EINTR});
  end_stream($s);
  return 0;
}

sub end_stream { my ($s) = @_; return if $s->{is_over}; $s->{is_over} = 1; forget_fd($s->{fh}) }

sub reap {
  while ((my $pid = waitpid(-1, POSIX::WNOHANG())) > 0) {
    my $status = $?;
    my $p = delete $by_pid{$pid} or next;
    $p->{ended_at} = now();
    $p->{code} //= $status;
    $_->{last} = end_of($_) + waiting($_->{fh}) for grep { !$_->{is_over} } @{$p->{streams}};
    $p->{was_oom} = ($status & 127) == 9 && oom_kills() > $p->{oom};
    close_input($p);
    forget_fd(delete $p->{slave}) if $p->{slave};
    $p->{drain_at} = now() + $DRAIN_S;
    drain($p);
  }
}

sub end_of { my ($s) = @_; return $s->{base} + length $s->{buffer} }

# How much lies in a pipe, or in a terminal, whose own buffers do not count themselves.
sub waiting { my ($fh) = @_; my $n = pack 'i', 0; return $TERMINAL_BUFFER + (ioctl($fh, $FIONREAD, $n) ? unpack 'i', $n : 0) }

# All that lies in the pipes. True when there is no more.
sub drain {
  my ($p) = @_;
  for my $s (@{$p->{streams}}) { next if $s->{is_over}; while (take_output($s)) { } }
  feed($p);
}

# Output that others may still write is not waited for beyond the deadline; what was written before it is kept.
sub finish_late {
  my ($now) = @_;
  for my $p (my @procs = values %procs) {
    # Whoever was to kill it has not.
    kill 9, -$p->{pid} if $p->{kill_at} && $now >= $p->{kill_at} && $by_pid{$p->{pid}};
    # Nobody has come for its end.
    delete $procs{$p->{id}} if defined $p->{ended_at} && !$p->{conn} && $now - $p->{ended_at} > $KEPT_S;
    next unless defined $p->{drain_at} && $now >= $p->{drain_at};
    my @open = grep { !$_->{is_over} } @{$p->{streams}};
    drain($p) if @open;
    for my $s (@open) { end_stream($s) if length $s->{buffer} < $WINDOW || end_of($s) >= $s->{last} }
    $p->{drain_at} = (grep { !$_->{is_over} } @open) ? $now + $DRAIN_S : undef;
    feed($p);
  }
}

sub next_deadline {
  my $next = $is_stopping || %by_pid || strangers() ? now() + $REAP_S : undef;
  for my $p (values %procs) { my $at = $p->{drain_at}; $next = $at if defined $at && (!defined $next || $at < $next) }
  return undef unless defined $next;
  my $left = $next - now();
  return $left > 0 ? $left : 0;
}

sub stop_all { kill 'TERM', -$_ for keys %by_pid }

# How often the kernel has killed here for want of memory.
sub oom_kills {
  for my $path ('/sys/fs/cgroup/memory.events', '/sys/fs/cgroup/memory/memory.oom_control', '/proc/vmstat') {
    open(my $fh, '<', $path) or next;
    while (my $line = <$fh>) { return $1 if $line =~ /^oom_kill (\d+)/ }
  }
  return 0;
}
`;
