package nslab;

import jakarta.servlet.ServletException;
import java.io.CharArrayWriter;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import org.apache.catalina.connector.Request;
import org.apache.catalina.connector.Response;
import org.apache.catalina.valves.AbstractAccessLogValve;

/**
 * Names the realserver in each answer ({@code X-Realserver}) and writes the access log to standard
 * output, a line a request. Tomcat's own valve writes to files only.
 */
public final class Realserver extends AbstractAccessLogValve {
  private final String name = System.getenv("RS_NAME");
  private final FileOutputStream out = new FileOutputStream(FileDescriptor.out);

  @Override
  public void invoke(Request request, Response response) throws IOException, ServletException {
    if (name != null) {
      response.setHeader("X-Realserver", name);
    }
    super.invoke(request, response);
  }

  @Override
  protected void log(CharArrayWriter message) {
    message.append('\n');
    try {
      // One write a line, so that lines of two threads do not mix.
      out.write(message.toString().getBytes(StandardCharsets.UTF_8));
    } catch (IOException e) {
      // Nobody reads the log any more; that is no reason to fail a request.
    }
  }
}
