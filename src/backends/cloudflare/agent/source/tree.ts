/** The part of the agent that says what is in directories. */
export const TREE = String.raw`
my $MAX_LISTED = 200_000;     # files that a directory may hold to be listed, and what may be said of those that are
my $MAX_LIST_BYTES = 1 << 23;

# System calls that Perl has no words for, by the kind of machine.
my %CALLS_OF = (
  x86_64 => { statx => 332, inotify_init1 => 294, inotify_add_watch => 254, inotify_rm_watch => 255 },
  aarch64 => { statx => 291, inotify_init1 => 26, inotify_add_watch => 27, inotify_rm_watch => 28 },
);
my $CALLS = length pack('p', '') == 8 ? $CALLS_OF{(POSIX::uname())[4]} // {} : {};
my ($AT_FDCWD, $AT_SYMLINK_NOFOLLOW, $STATX_BASIC) = (-100, 0x100, 0x7ff);

# UTF-8, and what is only the beginning of it.
my $UTF8 = qr/[\x00-\x7f]|[\xc2-\xdf][\x80-\xbf]|\xe0[\xa0-\xbf][\x80-\xbf]|[\xe1-\xec\xee\xef][\x80-\xbf]{2}|\xed[\x80-\x9f][\x80-\xbf]|\xf0[\x90-\xbf][\x80-\xbf]{2}|[\xf1-\xf3][\x80-\xbf]{3}|\xf4[\x80-\x8f][\x80-\xbf]{2}/s;
my $BROKEN = qr/\xe0[\xa0-\xbf]|[\xe1-\xec\xee\xef][\x80-\xbf]|\xed[\x80-\x9f]|\xf0[\x90-\xbf][\x80-\xbf]?|[\xf1-\xf3][\x80-\xbf]{1,2}|\xf4[\x80-\x8f][\x80-\xbf]?|./s;

# The name as a client is shown it: what is no UTF-8 is U+FFFD.
sub shown { my ($name) = @_; $name =~ s/\G((?:$UTF8)*+)$BROKEN/$1\xef\xbf\xbd/g if $name =~ /[^\x00-\x7f]/; return $name }

# Strings in this order are in that of their UTF-16: what takes two units there comes before U+E000.
sub order_of { my ($name) = @_; $name =~ tr/\xee\xef\xf0-\xf4/\xf3\xf4\xee-\xf2/; return $name }

sub trimmed { my ($path) = @_; $path =~ s{(?<=.)/+\z}{}s; return $path }

# What is there, itself: mode, size, owner, group, time in seconds and nanoseconds. Nothing where nothing is.
sub look_at {
  my ($path) = @_;
  if ($CALLS->{statx}) {
    my ($name, $found) = ("$path", "\0" x 256);
    if (syscall($CALLS->{statx}, $AT_FDCWD, $name, $AT_SYMLINK_NOFOLLOW, $STATX_BASIC, $found) == 0) {
      my ($uid, $gid, $mode, $size, $seconds, $nanoseconds) = unpack 'x20 L L S x10 Q x64 q L', $found;
      return ($mode, $size, $uid, $gid, $seconds, $nanoseconds);
    }
    return unless $!{ENOSYS} || $!{EPERM};
  }
  my @found = lstat $path or return;
  return (@found[2, 7, 4, 5, 9], 0);
}

my (%users, %groups);

# What a client is told of a file that is to be called '$path'.
sub info_of {
  my ($path, $file) = @_;
  my ($mode, $size, $uid, $gid, $seconds, $nanoseconds) = look_at($file) or return;
  my $target = S_ISLNK($mode) ? readlink($file) // '' : '';
  my $user = $users{$uid} //= getpwuid($uid) // $uid;
  my $group = $groups{$gid} //= getgrgid($gid) // $gid;
  return pack '(N/a*)*', shown($path), $mode, $size, shown($user), shown($group), $seconds, $nanoseconds, shown($target);
}

sub stat_file {
  my ($c, $path) = @_;
  send_now($c, 'l', info_of(trimmed($path), $path) // give_up(code_of_errno(), ''));
}

# '$limit' of what is behind the path '$after', and whether there is more.
sub list_files {
  my ($c, $path, $depth, $limit, $after) = @_;
  chdir $path or give_up(code_of_errno(), '');
  my $base = trimmed($path) eq '/' ? '' : trimmed($path);
  my $behind = order_of($after);
  my ($count, @found) = (0);
  my @todo = (['', $depth]);
  while (my $next = shift @todo) {
    my ($folder, $left) = @$next;
    if (!opendir my $dh, length $folder ? $folder : '.') {
      give_up(code_of_errno(), '') unless length $folder;
    } else {
      while (defined(my $name = readdir $dh)) {
        next if $name eq '.' || $name eq '..';
        give_up('payload_too_large', "The directory holds more than $MAX_LISTED files.") if ++$count > $MAX_LISTED;
        my $file = $folder . $name;
        my $order = order_of(shown("$base/$file"));
        push @found, [$order, $file] if $order gt $behind;
        next unless $left > 1;
        lstat $file;
        push @todo, ["$file/", $left - 1] if -d _;
      }
    }
  }
  my ($sent, $bytes, $has_more, $batch) = (0, 0, 0, '');
  for my $one (sort { $a->[0] cmp $b->[0] } @found) {
    my $info = info_of("$base/$one->[1]", $one->[1]) // next;
    if ($sent++ >= $limit) { $has_more = 1; last }
    $bytes += length $info;
    give_up('payload_too_large', 'The names are too long for so many in one list.') if $bytes > $MAX_LIST_BYTES;
    $batch .= pack 'a1 N/a*', 'l', $info;
    next if length $batch < $FRAME;
    send_bytes($c, $batch);
    $batch = '';
  }
  send_bytes($c, $batch . pack 'a1 N/a*', 'z', $has_more);
}
`;
