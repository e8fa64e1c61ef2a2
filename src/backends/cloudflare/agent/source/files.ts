/**
 * The part of the agent that reads and writes files. Each operation is a process of its own that may wait. It runs inside
 * the sandbox, so no link and no `..` leads anywhere the sandbox could not go itself.
 */
export const FILES = String.raw`
my $SMALL_FILE = 65536;       # up to here a file is read before it is said how long it is: /sys claims what is not so

# On the way out of a file operation: the code of an error, and what there is to say about it.
sub give_up { die [@_] }

sub send_now { my ($c, $type, $payload) = @_; return send_bytes($c, pack('a1 N', $type, length $payload) . $payload) }

sub send_bytes {
  my ($c, $message) = @_;
  while (length $message) {
    my $n = syswrite($c->{fh}, $message);
    if (!defined $n) { next if $!{EINTR}; die "the client has gone\n" }
    substr($message, 0, $n, '');
  }
  return 1;
}

sub write_all {
  my ($fh, $bytes) = @_;
  while (length $bytes) {
    my $n = syswrite($fh, $bytes);
    if (!defined $n) { next if $!{EINTR}; give_up(code_of_errno(), '') }
    substr($bytes, 0, $n, '');
  }
}

# The next frame; nothing when the client has gone.
sub next_frame {
  my ($c) = @_;
  for (;;) {
    if (length $c->{in} >= 5) {
      my ($type, $length) = unpack 'a1 N', $c->{in};
      return if $length > $MAX_FRAME;
      if (length $c->{in} >= 5 + $length) {
        my $payload = substr($c->{in}, 5, $length);
        substr($c->{in}, 0, 5 + $length, '');
        return ($type, $payload);
      }
    }
    my $n = sysread($c->{fh}, $c->{in}, 1 << 17, length $c->{in});
    next if !defined $n && $!{EINTR};
    return unless $n;
  }
}

sub code_of_errno {
  return 'file_not_found' if $!{ENOENT} || $!{ELOOP};
  return 'not_a_directory' if $!{ENOTDIR};
  return 'disk_full' if $!{ENOSPC} || $!{EDQUOT};
  return 'permission_denied';
}

# Makes the directory and its parents. Why not, where that fails, in $!, too.
sub make_directories {
  my ($path, $mode) = @_;
  my $made = '';
  for my $part (split m{/}, $path) {
    $made .= "$part/";
    next if -d $made || mkdir $made, $mode;
    my $errno = $! + 0;
    next if -d $made;
    $! = $errno == EEXIST ? ENOTDIR : $errno;
    return lc "$!";
  }
  return '';
}

# The path '$path', its bytes '$first' to '$last' (both included), or the last '$suffix'; empty where not asked for.
sub read_file {
  my ($c, $path, $first, $last, $suffix) = @_;
  stat $path or give_up(code_of_errno(), '');
  give_up('is_a_directory', '') if -d _;
  give_up('not_a_file', '') unless -f _;
  sysopen(my $fh, $path, O_RDONLY | O_NONBLOCK) or give_up(code_of_errno(), '');
  my $size = -s $fh;
  my $has_range = length "$first$suffix";
  my $head = '';
  if ($size <= $SMALL_FILE) {
    while (length $head <= $size) {
      my $n = sysread($fh, $head, $SMALL_FILE, length $head);
      give_up(code_of_errno(), '') unless defined $n;
      last if $n == 0;
    }
    if ($size == 0 && length $head) {
      send_now($c, 'm', pack 'C Q> Q> Q>', 0, 0, 0, 0);
      return pour_file($c, $fh, $head, undef);
    }
    $size = length $head if length $head < $size;
  }
  my ($from, $to) = (0, $size - 1);
  if ($has_range) {
    $from = length $suffix ? ($suffix < $size ? $size - $suffix : 0) : $first;
    $to = $last if length $last && $last < $to;
    give_up('range_not_satisfiable', $size) if $from > $to;
    sysseek($fh, $from, 0);
    $head = '';
  }
  send_now($c, 'm', pack 'C Q> Q> Q>', $has_range ? 2 : 1, $size, $from, $to < 0 ? 0 : $to);
  pour_file($c, $fh, $head, $to - $from + 1);
}

sub pour_file {
  my ($c, $fh, $bytes, $left) = @_;
  for (;;) {
    $bytes = substr($bytes, 0, $left) if defined $left && length $bytes > $left;
    while (length $bytes) {
      my $part = substr($bytes, 0, $FRAME, '');
      send_now($c, 'd', $part);
      $left -= length $part if defined $left;
    }
    last if defined $left && $left <= 0;
    my $n = sysread($fh, $bytes, $FRAME);
    give_up(code_of_errno(), '') unless defined $n;
    last if $n == 0;
  }
  send_now($c, 'z', '');
}

# What the path links to, so that the link stays.
sub follow {
  my ($path) = @_;
  for (1 .. 40) {
    my $target = readlink $path;
    return $path unless defined $target;
    if ($target =~ m{^/}) { $path = $target } else { $path =~ s{[^/]*\z}{}; $path .= $target }
  }
  give_up('file_not_found', '');
}

# Takes the content in frames, then 'z': the file is then put in place as a whole. Without it the old one stays.
sub write_file {
  my ($c, $path, $mode) = @_;
  $path = follow($path);
  give_up('is_a_directory', '') if -d $path || $path =~ m{/\.{0,2}\z};
  my ($folder, $file) = $path =~ m{^(.*/)(.*)\z}s;
  if (!-d $folder) {
    give_up(code_of_errno(), '') if make_directories($folder, 0755);
  }
  # From here on it is this folder, whatever becomes of the path to it.
  chdir $folder or give_up(code_of_errno(), '');
  my @old = stat $file;
  if (@old) { give_up('not_a_file', '') unless -f _ || -c _ || -b _ }
  give_up('permission_denied', '') if @old && !-w $file;
  my $name = '.sandbar-' . unpack 'H*', random_bytes(12);
  # Nothing can stand beside a device, a file of /proc, or a file in a directory of another user.
  my $temporary = $name;
  my $is_direct = @old && !-f $file;
  umask 077;
  my $flags = O_WRONLY | O_CREAT | O_EXCL;
  my $fh;
  if ($is_direct || !sysopen($fh, $temporary, $flags, 0600)) {
    give_up(code_of_errno(), '') unless @old;
    ($temporary, $is_direct) = ("/tmp/$name", 1);
    sysopen($fh, $temporary, $flags, 0600) or give_up(code_of_errno(), '');
  }
  my $done = eval {
    send_now($c, 'k', '');
    my $type = receive_into($c, $fh);
    close $fh or give_up(code_of_errno(), '');
    die "the client has gone\n" unless $type eq 'z';
    put_in_place($file, $temporary, $mode, $is_direct, @old);
    1;
  };
  my $why = $@;
  unlink $temporary;
  die $why unless $done;
  send_now($c, 'z', '');
}

sub random_bytes { open(my $fh, '<', '/dev/urandom') or give_up('internal', 'no random bytes'); sysread $fh, my $bytes, $_[0]; return $bytes }

sub receive_into {
  my ($c, $fh) = @_;
  while (my ($type, $payload) = next_frame($c)) {
    return $type if $type ne 'd';
    write_all($fh, $payload);
  }
  return '';
}

sub put_in_place {
  my ($path, $temporary, $mode, $is_direct, @old) = @_;
  if (@old) { chown @old[4, 5], $temporary; chmod length $mode ? oct $mode : S_IMODE($old[2]), $temporary }
  else { chmod length $mode ? oct $mode : 0644, $temporary }
  return if !$is_direct && rename $temporary, $path;
  give_up('is_a_directory', '') if -d $path;
  # A file that is a mount of its own (/etc/hosts) cannot be replaced, only written.
  sysopen(my $from, $temporary, O_RDONLY) or give_up(code_of_errno(), '');
  sysopen(my $to, $path, O_WRONLY | O_TRUNC) or give_up(code_of_errno(), '');
  pour_into($from, $to);
  chmod oct $mode, $path if length $mode;
}

sub pour_into {
  my ($from, $to) = @_;
  for (;;) {
    my $n = sysread($from, my $bytes, $FRAME);
    give_up(code_of_errno(), '') unless defined $n;
    return if $n == 0;
    write_all($to, $bytes);
  }
}
`;
