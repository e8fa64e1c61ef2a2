/** The part of the agent that packs and unpacks archives, with the image's tar. */
export const ARCHIVE = String.raw`
my $MAX_SAID = 65536;         # of what tar complains about

sub tar_of_image {
  for my $folder (split(/:/, $ENV{PATH} // ''), qw(/usr/bin /bin)) { return "$folder/tar" if length $folder && -x "$folder/tar" }
  give_up('unsupported_by_backend', 'The image of the sandbox has no tar.');
}

# Runs it: its input or nothing, and the end of a pipe from which its output comes, or what it complains about.
sub run_tar {
  my ($input, $wanted, @command) = @_;
  pipe(my $from, my $to) or give_up('internal', "pipe: $!");
  my $pid = fork // give_up('internal', "fork: $!");
  if ($pid == 0) {
    $SIG{PIPE} = 'DEFAULT';
    open(my $null, '+<', '/dev/null');
    POSIX::dup2(fileno($input // $null), 0);
    POSIX::dup2(fileno($wanted == 1 ? $to : $null), 1);
    POSIX::dup2(fileno($wanted == 2 ? $to : $null), 2);
    $ENV{LC_ALL} = 'C';
    delete @ENV{qw(TAR_OPTIONS POSIXLY_CORRECT)};
    exec { $command[0] } @command;
    POSIX::_exit(127);
  }
  close $to;
  return ($pid, $from);
}

# How it ended, and all that it said as far as that is kept.
sub end_of_tar {
  my ($pid, $from) = @_;
  my $said = '';
  while (sysread $from, my $bytes, $FRAME) { $said .= $bytes if length $said < $MAX_SAID }
  waitpid $pid, 0;
  return ($?, $said);
}

# A directory, or one file, as what it is and not as a link to that.
sub read_archive {
  my ($c, $path) = @_;
  stat $path or give_up(code_of_errno(), '');
  my @what = ('-C', $path, '.');
  if (-d _) {
    opendir(my $dh, $path) or give_up(code_of_errno(), '');
    # What is only the kernel's is no content of an image.
    unshift @what, map { ('--exclude', "./$_/*") } qw(proc sys dev) if is_same_file([stat $path], [stat '/']);
  } else {
    give_up('not_a_file', '') unless -f _;
    give_up('permission_denied', '') unless -r _;
    my ($folder, $name) = parts_of($path);
    @what = ('-h', '-C', $folder, '--', $name);
  }
  my ($pid, $from) = run_tar(undef, 1, tar_of_image(), '--numeric-owner', '-cf', '-', @what);
  send_now($c, 'k', '');
  my $is_heard = eval {
    while (sysread $from, my $bytes, $FRAME) { send_now($c, 'd', $bytes) }
    1;
  };
  kill 'KILL', $pid unless $is_heard;
  waitpid $pid, 0;
  die "the client has gone\n" unless $is_heard;
  # 1: something changed while it was packed.
  give_up('internal', 'tar ended with ' . ($? >> 8)) if $? >> 8 > 1 || $? & 127;
  send_now($c, 'z', '');
}

# A file that nobody else can open, and that is gone with this process.
sub unnamed_file {
  for my $folder ('/tmp', '/var/tmp', '') {
    my $path = "$folder/.sandbar-" . unpack 'H*', random_bytes(12);
    next unless sysopen(my $fh, $path, O_RDWR | O_CREAT | O_EXCL, 0600);
    unlink $path;
    return $fh;
  }
  give_up(code_of_errno(), '');
}

# Takes the archive in frames, then 'z'. Nothing is unpacked before it is whole and is one.
sub write_archive {
  my ($c, $path) = @_;
  if (!stat $path) { give_up(code_of_errno(), '') unless $!{ENOENT} }
  elsif (!-d _) { give_up('not_a_directory', '') }
  my $tar = tar_of_image();
  my $fh = unnamed_file();
  send_now($c, 'k', '');
  die "the client has gone\n" unless receive_into($c, $fh) eq 'z';
  check_archive($tar, $fh);
  give_up(code_of_errno(), '') if !-d $path && make_directories($path, 0755);
  sysseek $fh, 0, 0;
  my ($status, $said) = end_of_tar(run_tar($fh, 2, $tar, '--numeric-owner', '-xpf', '-', '-C', $path));
  if ($status) {
    my $code = $said =~ /No space left|quota exceeded|Wrote only|short write/i ? 'disk_full' : 'permission_denied';
    give_up($code, 'tar: ' . substr shown($said =~ s/\n.*//sr), 0, 300);
  }
  send_now($c, 'z', '');
}

sub check_archive {
  my ($tar, $fh) = @_;
  give_up('invalid_request', 'The body is empty, which no tar is.') unless -s $fh;
  sysseek $fh, 0, 0;
  my ($pid, $from) = run_tar($fh, 1, $tar, '-tf', '-');
  my ($rest, $leads_out) = ('', 0);
  while (sysread $from, my $bytes, $FRAME) {
    $rest .= $bytes;
    $leads_out ||= $rest =~ m{(?:^|/)\.\.(?:/|\n)}m;
    # A name may go on in what comes next.
    $rest =~ s/.*\n//s;
    $rest = substr $rest, -$FRAME if length $rest > $FRAME;
  }
  waitpid $pid, 0;
  give_up('invalid_request', 'The body is no tar, or not a whole one. One that is compressed is not taken.') if $?;
  give_up('invalid_request', 'The archive holds a name that leads out of the directory.') if $leads_out;
}
`;
